//! Keeps `status.parents` of the cluster's routes as compilation sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::parents::{has_ours, merged};
use super::{PACE, Report};
use crate::model::{RouteParent, Snapshot};
use crate::objects::ObjectSet;

const GROUP: &str = "gateway.networking.k8s.io";
/// The kinds of routes whose state is written.
pub(super) const KINDS: [&str; 4] = ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"];
/// Changes are gathered for this long: a route and its Services often come together.
const GATHER: Duration = Duration::from_millis(50);
/// Time between looks at what the server has, in case somebody else changed our entries.
const RESYNC: Duration = Duration::from_secs(600);
/// Time until what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Time in which the API server must answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Routes in one answer to a list.
const PAGE: u32 = 250;
/// Attempts at a route that others change at the same time.
const ATTEMPTS: usize = 5;

/// Namespace and name.
type Key = (Arc<str>, Arc<str>);

/// Writes the state of one kind of routes until it is cancelled.
pub(super) async fn run(mut report: Report, kind: &'static str) {
    let mut writer = Writer {
        report: report.clone(),
        kind,
        written: BTreeMap::new(),
        stale: BTreeSet::new(),
        in_line: Arc::default(),
    };
    let mut resync = Instant::now();
    loop {
        let (snapshot, set) = (
            Arc::clone(&report.snapshots.borrow_and_update()),
            Arc::clone(&report.cluster.objects.borrow_and_update()),
        );
        let done = match version(&set, kind) {
            Some(version) if snapshot.version > 0 && set.synced => {
                if Instant::now() >= resync {
                    resync = Instant::now() + RESYNC;
                    writer.forget(version).await;
                }
                writer.write(version, &snapshot, &set).await
            }
            _ => true,
        };
        let again = if done { resync } else { Instant::now() + RETRY };
        tokio::select! {
            changed = report.snapshots.changed() => {
                if changed.is_err() {
                    return;
                }
                sleep(GATHER).await;
            }
            () = sleep_until(again.max(Instant::now() + GATHER)) => {}
        }
    }
}

/// The version that the source reads; `None` while there are no routes.
fn version(set: &ObjectSet, kind: &str) -> Option<&'static str> {
    let title = format!("{kind}.{GROUP}");
    let kind = set.kinds.iter().find(|kind| *kind.kind == *title)?;
    Some(kind.version).filter(|version| !version.is_empty())
}

struct Writer {
    report: Report,
    kind: &'static str,
    /// What is known to be written.
    written: BTreeMap<Key, Vec<Arc<RouteParent>>>,
    /// Routes with entries of ours that were found on the server.
    stale: BTreeSet<Key>,
    /// What everything was brought in line with last.
    in_line: Arc<[Arc<RouteParent>]>,
}

impl Writer {
    /// Believes nothing of what was written before, and looks for entries that are ours.
    async fn forget(&mut self, version: &str) {
        self.written.clear();
        self.in_line = Arc::default();
        match tokio::time::timeout(ANSWER, self.ours(version)).await {
            Ok(Ok(ours)) => self.stale = ours,
            Ok(Err(error)) => tracing::warn!(%error, "the state of routes cannot be read"),
            Err(_late) => tracing::warn!("the API server did not list the routes"),
        }
    }

    async fn ours(&self, version: &str) -> Result<BTreeSet<Key>, kube::Error> {
        let api = self.api(version, None);
        let mut params = ListParams::default().limit(PAGE);
        let mut ours = BTreeSet::new();
        loop {
            let page = api.list(&params).await?;
            for route in &page.items {
                let name = route.metadata.name.as_deref().unwrap_or_default();
                let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
                if has_ours(parents(&route.data)) {
                    ours.insert((namespace.into(), name.into()));
                }
            }
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => return Ok(ours),
            }
        }
    }

    /// Brings every route in line. Returns whether all of them are.
    async fn write(&mut self, version: &str, snapshot: &Snapshot, set: &ObjectSet) -> bool {
        if self.stale.is_empty() && Arc::ptr_eq(&self.in_line, &snapshot.route_parents) {
            return true;
        }
        let wanted = wanted(snapshot, set, self.kind);
        let gone = |key: &&Key| !wanted.contains_key(*key);
        let gone: BTreeSet<Key> = self
            .written
            .keys()
            .chain(&self.stale)
            .filter(gone)
            .cloned()
            .collect();
        let changed = wanted
            .iter()
            .filter(|(key, ours)| self.written.get(*key) != Some(ours));
        let mut due: Vec<(Key, Vec<Arc<RouteParent>>)> = changed
            .map(|(key, ours)| (key.clone(), ours.clone()))
            .collect();
        due.extend(gone.into_iter().map(|key| (key, Vec::new())));
        let mut all = true;
        for (key, ours) in due {
            match self.write_one(version, &key, &ours).await {
                Ok(()) => {
                    self.stale.remove(&key);
                    if ours.is_empty() {
                        self.written.remove(&key);
                    } else {
                        self.written.insert(key, ours);
                    }
                }
                Err(error) => {
                    let (namespace, name) = &key;
                    let kind = self.kind;
                    tracing::warn!(%error, "the state of {kind} {namespace}/{name} is not written");
                    all = false;
                }
            }
        }
        if all {
            self.in_line = Arc::clone(&snapshot.route_parents);
        }
        all
    }

    async fn write_one(
        &self,
        version: &str,
        (namespace, name): &Key,
        ours: &[Arc<RouteParent>],
    ) -> Result<(), kube::Error> {
        let api = self.api(version, Some(namespace));
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Some(route) = api.get_opt(name).await? else {
                return Ok(());
            };
            let Some(parents) = merged(parents(&route.data), ours, Timestamp::now()) else {
                return Ok(());
            };
            // With the version that was read: whoever wrote in between is not overwritten.
            let patch = json!({
                "metadata": {"resourceVersion": route.metadata.resource_version},
                "status": {"parents": parents},
            });
            let params = PatchParams::default();
            let written = api.patch_status(name, &params, &Patch::Merge(patch)).await;
            sleep(PACE).await;
            match written {
                Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {}
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                written => return written.map(drop),
            }
        }
    }

    fn api(&self, version: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let client = self.report.cluster.client.clone();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, version, self.kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        }
    }
}

fn parents(route: &Value) -> &[Value] {
    let parents = route.pointer("/status/parents").and_then(Value::as_array);
    parents.map_or(&[], Vec::as_slice)
}

/// What the routes of this API server should say; those of other sources are left out.
fn wanted(
    snapshot: &Snapshot,
    set: &ObjectSet,
    kind: &str,
) -> BTreeMap<Key, Vec<Arc<RouteParent>>> {
    let routes = set
        .objects
        .iter()
        .filter(|one| &*one.id.kind == kind && &*one.id.group == GROUP);
    let here: BTreeSet<_> = routes.map(|one| &one.id).collect();
    let mut wanted: BTreeMap<Key, Vec<Arc<RouteParent>>> = BTreeMap::new();
    for parent in snapshot
        .route_parents
        .iter()
        .filter(|one| here.contains(&one.route))
    {
        let key = (
            Arc::clone(&parent.route.namespace),
            Arc::clone(&parent.route.name),
        );
        wanted.entry(key).or_default().push(parent.clone());
    }
    wanted
}
