//! What changes during a soak: endpoints, routes and pods, through the API server.

use std::cell::Cell;

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{DeleteParams, ListParams};
use proxy_e2e::cluster::Cluster;
use serde_json::{Value, json};

use super::NAMESPACE;
use crate::installed::api::{
    DEPLOYMENT, ENDPOINT_SLICE, HTTP_ROUTE, POD, Stop, merge, objects, pace, with_client,
};

/// How many changes there were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes {
    pub(super) endpoints: u64,
    pub(super) routes: u64,
    /// Deployments that were scaled.
    pub(super) scalings: u64,
    /// Pods that were deleted with the time they ask for.
    pub(super) deletions: u64,
    /// Pods that were killed.
    pub(super) kills: u64,
}

impl Changes {
    pub(super) fn all(&self) -> u64 {
        self.endpoints + self.routes + self.scalings + self.deletions + self.kills
    }
}

/// Starting and ending pods is a machine's work, not an API server's.
const PODS_PER_SECOND: f64 = 0.5;
/// Of what is left, routes have this share.
const ROUTES: f64 = 0.3;
/// Replicas of the Deployments at rest, and when they are more.
const REPLICAS: [u32; 2] = [3, 5];

/// Changes objects at this rate until it is told to stop.
pub(super) fn run(cluster: &Cluster, per_second: f64, stop: &Stop) -> Result<Changes> {
    let rest = (per_second - PODS_PER_SECOND).max(1.0);
    with_client(cluster, async |client| {
        let counts = Cell::new(Changes::default());
        let servers = clients(&client).await?;
        let endpoints = pace(rest * (1.0 - ROUTES), 4, stop, async |n| {
            endpoints(&client, n, &servers).await
        });
        let routes = pace(rest * ROUTES, 2, stop, async |n| route(&client, n).await);
        let pods = pace(PODS_PER_SECOND, 1, stop, async |n| {
            counts.set(pods(&client, n, counts.get()).await?);
            Ok(())
        });
        let (endpoints, routes, _) = futures::try_join!(endpoints, routes, pods)?;
        Ok(Changes {
            endpoints,
            routes,
            ..counts.get()
        })
    })
}

/// Brings the Deployments back to their replicas at rest.
pub(super) fn restore(cluster: &Cluster) -> Result<()> {
    with_client(cluster, async |client| {
        for name in ["steady-a", "steady-b"] {
            scale(&client, name, REPLICAS[0]).await?;
        }
        Ok(())
    })
}

/// Addresses of the pods that never end.
async fn clients(client: &Client) -> Result<Vec<String>> {
    let pods = objects(client, POD, NAMESPACE);
    let selected = ListParams::default().labels("app=client");
    let list = pods.list(&selected).await.context("list pods")?.items;
    let addresses = list.iter().map(|pod| {
        let address = pod.data["status"]["podIP"].as_str();
        address
            .map(str::to_owned)
            .context("a client has an address")
    });
    addresses.collect()
}

/// One of the servers by turns is ready; beside it are addresses that never are.
async fn endpoints(client: &Client, number: u64, servers: &[String]) -> Result<()> {
    let slices = objects(client, ENDPOINT_SLICE, NAMESPACE);
    let turn = usize::try_from(number)? % servers.len().max(1);
    let servers = servers.iter().enumerate().map(
        |(index, address)| json!({"addresses": [address], "conditions": {"ready": index == turn}}),
    );
    let others = (0..8).map(|of| {
        let host = (number + of) % 250 + 1;
        json!({"addresses": [format!("192.0.2.{host}")], "conditions": {"ready": false}})
    });
    let addresses: Vec<Value> = servers.chain(others).collect();
    merge(&slices, "still", &json!({"endpoints": addresses})).await
}

async fn route(client: &Client, number: u64) -> Result<()> {
    let routes = objects(client, HTTP_ROUTE, NAMESPACE);
    let header = json!({"name": "x-soak", "value": number.to_string()});
    let rule = json!({
        "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [header]}}],
        "backendRefs": [
            {"name": "steady", "port": 80, "weight": number % 4 + 1},
            {"name": "steady-b", "port": 80, "weight": (number / 4) % 4 + 1},
        ],
    });
    merge(&routes, "steady", &json!({"spec": {"rules": [rule]}})).await
}

/// By turns: more, one deleted, fewer, one deleted; every fifth time one is killed. None is ended
/// while others are still starting: a slow machine would soon have none that serves.
async fn pods(client: &Client, number: u64, mut changes: Changes) -> Result<Changes> {
    let name = ["steady-a", "steady-b"][usize::try_from(number / 4 % 2)?];
    match (number % 5, number % 4) {
        (4, _) => {
            let at_once = DeleteParams::default().grace_period(0);
            changes.kills += end(client, "frail", &at_once).await?;
        }
        (_, 1 | 3) => {
            changes.deletions += end(client, name, &DeleteParams::default()).await?;
        }
        (_, turn) => {
            let replicas = REPLICAS[usize::from(turn == 0)];
            scale(client, name, replicas).await?;
            changes.scalings += 1;
        }
    }
    Ok(changes)
}

async fn scale(client: &Client, name: &str, replicas: u32) -> Result<()> {
    let deployments = objects(client, DEPLOYMENT, NAMESPACE);
    merge(&deployments, name, &json!({"spec": {"replicas": replicas}})).await
}

/// Deletes the oldest pod of a Deployment, if it has enough that are ready; how many that were.
async fn end(client: &Client, name: &str, how: &DeleteParams) -> Result<u64> {
    let deployment = objects(client, DEPLOYMENT, NAMESPACE).get(name).await;
    let deployment = deployment.with_context(|| format!("read {name}"))?;
    let ready = deployment.data["status"]["readyReplicas"].as_u64();
    if ready.unwrap_or_default() < u64::from(REPLICAS[0]) {
        return Ok(0);
    }
    let pods = objects(client, POD, NAMESPACE);
    let selected = ListParams::default().labels(&format!("app={name}"));
    let mut list = pods.list(&selected).await.context("list pods")?.items;
    list.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    list.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
    let oldest = list.first().and_then(|pod| pod.metadata.name.clone());
    let oldest = oldest.with_context(|| format!("no pod of {name}"))?;
    let deleted = pods.delete(&oldest, how).await;
    deleted.with_context(|| format!("delete {oldest}"))?;
    Ok(1)
}
