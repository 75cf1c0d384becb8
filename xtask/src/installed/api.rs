//! Changing objects by the thousand: a client of the API server, and a pace to keep.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use proxy_e2e::cluster::Cluster;
use serde_json::Value;

/// A kind by group, version, name and plural.
pub(crate) type Kind = (&'static str, &'static str, &'static str, &'static str);

pub(crate) const CONFIG_MAP: Kind = ("", "v1", "ConfigMap", "configmaps");
pub(crate) const DEPLOYMENT: Kind = ("apps", "v1", "Deployment", "deployments");
pub(crate) const NODE: Kind = ("", "v1", "Node", "nodes");
pub(crate) const POD: Kind = ("", "v1", "Pod", "pods");
pub(crate) const SERVICE: Kind = ("", "v1", "Service", "services");
pub(crate) const ENDPOINT_SLICE: Kind =
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
pub(crate) const HTTP_ROUTE: Kind = ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");

/// Runs `work` with a client of the API server, on a thread that reaches it.
pub(crate) fn with_client<T: Send>(
    cluster: &Cluster,
    work: impl AsyncFnOnce(Client) -> Result<T> + Send,
) -> Result<T> {
    let kubeconfig = cluster.kubeconfig();
    cluster.beside_api(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
            work(Client::try_from(config)?).await
        })
    })
}

/// Objects of a kind in a namespace.
pub(crate) fn objects(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// Objects of a kind that have no namespace.
pub(crate) fn of_cluster(client: &Client, kind: Kind) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(kind))
}

fn resource((group, version, kind, plural): Kind) -> ApiResource {
    let kind = GroupVersionKind::gvk(group, version, kind);
    ApiResource::from_gvk_with_plural(&kind, plural)
}

/// Creates an object.
pub(crate) async fn create(api: &Api<DynamicObject>, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let name = object.metadata.name.clone().unwrap_or_default();
    let created = api.create(&PostParams::default(), &object).await;
    created.map(drop).with_context(|| format!("create {name}"))
}

/// Changes an object by a merge patch.
pub(crate) async fn merge(api: &Api<DynamicObject>, name: &str, patch: &Value) -> Result<()> {
    let patched = api
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    patched.map(drop).with_context(|| format!("patch {name}"))
}

/// Told to end from another thread.
#[derive(Debug, Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    pub(crate) fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Calls `change` with 0, 1, 2 … so many times a second, some of them at once, until it is told to
/// stop. Returns how many there were.
pub(crate) async fn pace(
    per_second: f64,
    at_once: u32,
    stop: &Stop,
    change: impl AsyncFn(u64) -> Result<()>,
) -> Result<u64> {
    let (begun, next) = (Instant::now(), Cell::new(0_u64));
    let lane = async || {
        loop {
            let number = next.replace(next.get() + 1);
            let due = begun + Duration::from_secs_f64(number as f64 / per_second);
            tokio::time::sleep_until(due.into()).await;
            if stop.told() {
                next.set(next.get() - 1);
                return Ok(());
            }
            change(number).await?;
        }
    };
    let ended: Result<Vec<()>> = try_join_all((0..at_once).map(|_| lane())).await;
    ended.map(|_| next.get())
}

/// Calls `make` with every number below `count`, some of them at once.
pub(crate) async fn each(
    count: u64,
    at_once: u32,
    make: impl AsyncFn(u64) -> Result<()>,
) -> Result<()> {
    let next = Cell::new(0_u64);
    let lane = async || {
        while next.get() < count {
            make(next.replace(next.get() + 1)).await?;
        }
        Ok(())
    };
    let ended: Result<Vec<()>> = try_join_all((0..at_once).map(|_| lane())).await;
    ended.map(drop)
}
