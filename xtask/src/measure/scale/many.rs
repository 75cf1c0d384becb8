//! The objects of a large cluster, and changes to them, through the API server.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use kube::Client;
use proxy_e2e::cluster::Cluster;
use serde_json::{Value, json};

use super::NAMESPACE;
use crate::installed::api::{
    CONFIG_MAP, ENDPOINT_SLICE, NODE, POD, SERVICE, Stop, create, each, merge, objects, of_cluster,
    pace, with_client,
};

/// How many there are.
#[derive(Debug, clap::Args)]
pub(super) struct Many {
    /// Services, each with one EndpointSlice.
    #[arg(long, default_value_t = 10_000)]
    pub(super) services: u32,
    /// Endpoints of each Service.
    #[arg(long, default_value_t = 10)]
    endpoints: u32,
    /// Pods on a node that does not run.
    #[arg(long, default_value_t = 5_000)]
    pods: u32,
}

/// What changes during a window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// Nothing.
    Nothing,
    /// Objects of a kind that agents do not read.
    Unread,
    /// An endpoint of one Service after the other.
    Endpoints,
}

impl Change {
    pub(super) const ALL: [Self; 3] = [Self::Nothing, Self::Unread, Self::Endpoints];
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing changes",
            Self::Unread => "unread objects change",
            Self::Endpoints => "endpoints change",
        })
    }
}

/// Requests to the API server at once.
const AT_ONCE: u32 = 16;
/// ConfigMaps that change in place of EndpointSlices.
const UNREAD: u64 = 500;
/// Windows until one writes again what a former one wrote: so many addresses of each are within 11.0.0.0/8.
const KEPT_APART: u64 = 97;
const ELSEWHERE: &str = "elsewhere";

impl Many {
    pub(super) fn create(&self, cluster: &Cluster) -> Result<()> {
        with_client(cluster, async |client| {
            let nodes = of_cluster(&client, NODE);
            create(&nodes, node()).await?;
            let services = objects(&client, SERVICE, NAMESPACE);
            let slices = objects(&client, ENDPOINT_SLICE, NAMESPACE);
            each(u64::from(self.services), AT_ONCE, async |n| {
                create(&services, service(n)).await?;
                create(&slices, self.slice(n)).await
            })
            .await?;
            let pods = objects(&client, POD, NAMESPACE);
            each(u64::from(self.pods), AT_ONCE, async |n| {
                create(&pods, pod(n)).await
            })
            .await?;
            let maps = objects(&client, CONFIG_MAP, NAMESPACE);
            each(UNREAD, AT_ONCE, async |n| {
                create(&maps, self.unread(n)).await
            })
            .await
        })
    }

    /// Changes objects until it is told to stop; returns how many a second it came to.
    pub(super) fn change(
        &self,
        cluster: &Cluster,
        change: Change,
        per_second: f64,
        stop: &Stop,
    ) -> Result<f64> {
        /// Windows so far: what one writes differs from what any before it wrote, else nothing changes.
        static WINDOWS: AtomicU64 = AtomicU64::new(1);
        let (begun, salt) = (Instant::now(), WINDOWS.fetch_add(1, Ordering::Relaxed));
        let count = with_client(cluster, async |client| match change {
            Change::Nothing => {
                while !stop.told() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(0)
            }
            Change::Unread => {
                pace(per_second, AT_ONCE, stop, async |n| {
                    self.change_unread(&client, n, salt).await
                })
                .await
            }
            Change::Endpoints => {
                pace(per_second, AT_ONCE, stop, async |n| {
                    self.change_endpoints(&client, n, salt).await
                })
                .await
            }
        })?;
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }

    async fn change_endpoints(&self, client: &Client, number: u64, salt: u64) -> Result<()> {
        let name = format!("many-{}", number % u64::from(self.services));
        let patch = json!({"endpoints": self.addresses(number, salt + number)});
        merge(&objects(client, ENDPOINT_SLICE, NAMESPACE), &name, &patch).await
    }

    /// As many bytes as an EndpointSlice, to as many watchers but the agent.
    async fn change_unread(&self, client: &Client, number: u64, salt: u64) -> Result<()> {
        let name = format!("many-{}", number % UNREAD);
        let data = Value::from(self.addresses(number, salt + number)).to_string();
        let patch = json!({"data": {"endpoints": data}});
        merge(&objects(client, CONFIG_MAP, NAMESPACE), &name, &patch).await
    }

    fn slice(&self, number: u64) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("many-{number}"),
                "labels": {"kubernetes.io/service-name": format!("many-{number}")},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": self.addresses(number, 0),
        })
    }

    fn unread(&self, number: u64) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": format!("many-{number}")},
            "data": {"endpoints": Value::from(self.addresses(number, 0)).to_string()},
        })
    }

    /// Endpoints of a Service in 11.0.0.0/8, one of which is `changed` times another.
    fn addresses(&self, number: u64, changed: u64) -> Vec<Value> {
        let addresses = (0..u64::from(self.endpoints)).map(|of| {
            let shift = if of == 0 { changed % KEPT_APART } else { 0 };
            let [_, a, b, c] =
                (number * u64::from(self.endpoints) + of + shift * 100_003).to_be_bytes()[4..]
            else {
                return Value::Null;
            };
            json!({
                "addresses": [format!("11.{a}.{b}.{c}")],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": ELSEWHERE,
                "zone": "zone-1",
            })
        });
        addresses.collect()
    }
}

impl fmt::Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.services * self.endpoints;
        let Self { services, pods, .. } = self;
        write!(f, "{services} Services, {endpoints} endpoints, {pods} Pods")
    }
}

fn service(number: u64) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": format!("many-{number}")},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    })
}

fn node() -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": ELSEWHERE}})
}

/// Tolerates that its node never reports.
fn pod(number: u64) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("many-{number}"), "labels": {"app": "many"}},
        "spec": {
            "nodeName": ELSEWHERE,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "none", "image": "local/none:1"}],
        },
    })
}
