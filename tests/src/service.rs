//! A Service: its objects for the agent, its DNAT rule for everybody else.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use serde_json::{Value, json};

use crate::kube_proxy::Rule;
use crate::manifest;
use crate::node::Node;
use crate::pod::Pod;

/// A Service that is about to be made.
#[derive(Debug)]
pub struct ServiceOptions {
    node: Node,
    name: String,
    annotations: Value,
    port: Value,
    dnat: bool,
    spec: Value,
}

impl ServiceOptions {
    pub(crate) fn new(node: Node, name: &str) -> Self {
        Self {
            node,
            name: name.to_owned(),
            annotations: json!({}),
            port: json!({ "name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP" }),
            dnat: true,
            spec: json!({}),
        }
    }

    /// Balanced in turn instead of by power of two choices.
    #[must_use]
    pub fn round_robin(mut self) -> Self {
        self.annotations["proxy-agent.io/balance"] = json!("round-robin");
        self
    }

    /// Port name, number and target port; `http`, 80 and 8080 unless it is set.
    #[must_use]
    pub fn port(mut self, name: &str, port: u16, target: u16) -> Self {
        self.port["name"] = json!(name);
        self.port["port"] = json!(port);
        self.port["targetPort"] = json!(target);
        self
    }

    /// `appProtocol` of the port.
    #[must_use]
    pub fn app_protocol(mut self, protocol: &str) -> Self {
        self.port["appProtocol"] = json!(protocol);
        self
    }

    /// Without a rule on the ordinary path: who is not captured does not get through.
    #[must_use]
    pub fn without_dnat(mut self) -> Self {
        self.dnat = false;
        self
    }

    /// Sets a field of the Service's spec.
    #[must_use]
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    /// Makes it, with these pods as its endpoints.
    ///
    /// # Errors
    /// Manifests or rules could not be written.
    pub fn to<'a>(self, pods: impl IntoIterator<Item = &'a Pod>) -> Result<Service> {
        let addresses = self.node.next_service_addresses();
        let mut spec = json!({
            "type": "ClusterIP",
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [self.port],
        });
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), self.spec.as_object()) {
            spec.extend(more.clone());
        }
        let object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "namespace": "default",
                "name": self.name,
                "annotations": self.annotations,
            },
            "spec": spec,
        });
        let number = |field: &str| {
            self.port[field]
                .as_u64()
                .and_then(|n| u16::try_from(n).ok())
        };
        let service = Service {
            port: number("port").unwrap_or_default(),
            target_port: number("targetPort").unwrap_or_default(),
            node: self.node,
            name: self.name,
            addresses,
            object,
            dnat: self.dnat,
        };
        service.set_endpoints(pods)?;
        Ok(service)
    }
}

/// A Service of the node; it stays until the node goes.
#[derive(Debug)]
pub struct Service {
    node: Node,
    name: String,
    addresses: [IpAddr; 2],
    port: u16,
    target_port: u16,
    object: Value,
    dnat: bool,
}

impl Service {
    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// IPv4 cluster address.
    pub fn ip(&self) -> IpAddr {
        self.addresses[0]
    }

    /// IPv4 cluster address with the port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.addresses[0], self.port)
    }

    /// IPv6 cluster address with the port.
    pub fn address_v6(&self) -> SocketAddr {
        SocketAddr::new(self.addresses[1], self.port)
    }

    /// `http://ADDRESS/`, IPv4.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address())
    }

    /// `http://ADDRESS/` with a path that starts without a slash.
    pub fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.url())
    }

    /// `http://[ADDRESS]/`, IPv6.
    pub fn url_v6(&self) -> String {
        format!("http://{}/", self.address_v6())
    }

    /// The Service object.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// Name of the file that holds its objects.
    pub fn file(&self) -> String {
        format!("service-{}.yaml", self.name)
    }

    /// Replaces its endpoints, for the agent and on the ordinary path.
    ///
    /// # Errors
    /// Manifests or rules could not be written.
    pub fn set_endpoints<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) -> Result<()> {
        let all: Vec<(String, IpAddr)> = pods
            .into_iter()
            .flat_map(|pod| pod.ips().iter().map(|ip| (pod.name().to_owned(), *ip)))
            .collect();
        let family = |v4: bool| -> Vec<_> {
            all.iter()
                .filter(|(_, ip)| ip.is_ipv4() == v4)
                .cloned()
                .collect()
        };
        let (v4, v6) = (family(true), family(false));
        let objects = [
            self.object.clone(),
            manifest::endpoint_slice(&self.object, "IPv4", &v4),
            manifest::endpoint_slice(&self.object, "IPv6", &v6),
        ];
        if self.dnat {
            for (address, endpoints) in self.addresses.iter().zip([&v4, &v6]) {
                self.node.inner.kube_proxy.set(Rule {
                    service: SocketAddr::new(*address, self.port),
                    endpoints: endpoints.iter().map(|(_, ip)| *ip).collect(),
                    target_port: self.target_port,
                })?;
            }
        }
        self.node.config().put(&self.file(), &objects)
    }

    /// Connections that took the ordinary path to this Service.
    ///
    /// # Errors
    /// nft failed.
    pub fn dnat_connections(&self) -> Result<u64> {
        let [v4, v6] = self.addresses.map(|ip| SocketAddr::new(ip, self.port));
        let kube_proxy = &self.node.inner.kube_proxy;
        Ok(kube_proxy.connections(v4)? + kube_proxy.connections(v6)?)
    }

    /// Packets to this Service's addresses that the node saw at all.
    ///
    /// # Errors
    /// nft failed.
    pub fn packets(&self) -> Result<u64> {
        let [v4, v6] = self.addresses.map(|ip| SocketAddr::new(ip, self.port));
        let kube_proxy = &self.node.inner.kube_proxy;
        Ok(kube_proxy.packets(v4)? + kube_proxy.packets(v6)?)
    }
}
