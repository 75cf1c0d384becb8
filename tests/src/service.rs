//! A Service: its objects for the agent, its DNAT rule for everybody else.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::kube_proxy::{KubeProxy, Rule};
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
    random: bool,
    dual_stack: bool,
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
            random: false,
            dual_stack: false,
            spec: json!({}),
        }
    }

    /// Balanced in turn instead of by power of two choices.
    #[must_use]
    pub fn round_robin(self) -> Self {
        self.annotated("balance", "round-robin")
    }

    /// Balanced at random, on the ordinary path too, which takes endpoints in turn otherwise.
    #[must_use]
    pub fn random(mut self) -> Self {
        self.random = true;
        self.annotated("balance", "random")
    }

    /// With an annotation of the agent's own.
    #[must_use]
    pub fn annotated(mut self, name: &str, value: &str) -> Self {
        self.annotations[format!("proxy-agent.io/{name}")] = json!(value);
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

    /// With an IPv6 address and endpoints too; IPv4 alone unless it is set.
    #[must_use]
    pub fn dual_stack(mut self) -> Self {
        self.dual_stack = true;
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
        let mut addresses = self.node.next_service_addresses().to_vec();
        addresses.truncate(if self.dual_stack { 2 } else { 1 });
        let mut spec = json!({
            "type": "ClusterIP",
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
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
            random: self.random,
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
    addresses: Vec<IpAddr>,
    port: u16,
    target_port: u16,
    object: Value,
    dnat: bool,
    random: bool,
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

    /// IPv6 cluster address with the port, of a dual-stack Service.
    ///
    /// # Errors
    /// It has none.
    pub fn address_v6(&self) -> Result<SocketAddr> {
        let address = self
            .addresses
            .get(1)
            .context("the Service is not dual-stack")?;
        Ok(SocketAddr::new(*address, self.port))
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
    ///
    /// # Errors
    /// As [`Service::address_v6`].
    pub fn url_v6(&self) -> Result<String> {
        Ok(format!("http://{}/", self.address_v6()?))
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
        let mut objects = vec![self.object.clone()];
        for address in &self.addresses {
            let same_family = |(_, ip): &&(String, IpAddr)| ip.is_ipv4() == address.is_ipv4();
            let endpoints: Vec<_> = all.iter().filter(same_family).cloned().collect();
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            objects.push(manifest::endpoint_slice(&self.object, family, &endpoints));
            if self.dnat {
                self.node.inner.kube_proxy.set(Rule {
                    service: SocketAddr::new(*address, self.port),
                    endpoints: endpoints.iter().map(|(_, ip)| *ip).collect(),
                    target_port: self.target_port,
                    random: self.random,
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
        self.sum(KubeProxy::connections)
    }

    /// Packets to this Service's addresses that the node saw at all.
    ///
    /// # Errors
    /// nft failed.
    pub fn packets(&self) -> Result<u64> {
        self.sum(KubeProxy::packets)
    }

    fn sum(&self, read: impl Fn(&KubeProxy, SocketAddr) -> Result<u64>) -> Result<u64> {
        let sockets = self
            .addresses
            .iter()
            .map(|ip| SocketAddr::new(*ip, self.port));
        sockets
            .map(|socket| read(&self.node.inner.kube_proxy, socket))
            .sum()
    }
}
