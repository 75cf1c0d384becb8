//! Keeps `status.parents` of the cluster's routes as compilation sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::parents::{has_ours, merged};
use super::{PACE, Report};
use crate::model::{RouteParent, Snapshot};
use crate::objects::ObjectSet;

const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// The kinds of routes whose state is written.
pub(super) const KINDS: [Kind; 5] = [
    Kind {
        group: GATEWAY_API,
        name: "HTTPRoute",
    },
    Kind {
        group: GATEWAY_API,
        name: "GRPCRoute",
    },
    Kind {
        group: GATEWAY_API,
        name: "TLSRoute",
    },
    Kind {
        group: GATEWAY_API,
        name: "TCPRoute",
    },
    Kind {
        group: "policy.linkerd.io",
        name: "HTTPRoute",
    },
];
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
/// Entries of ours, by route.
type Wanted = BTreeMap<Key, Vec<Arc<RouteParent>>>;

/// A kind of routes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Kind {
    group: &'static str,
    name: &'static str,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.group)
    }
}

/// Writes the state of one kind of routes until it is cancelled.
pub(super) async fn run(mut report: Report, kind: Kind) {
    let mut writer = Writer {
        report: report.clone(),
        kind,
        written: Wanted::new(),
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
                let look = Instant::now() >= resync;
                if look || !writer.is_in_line(&snapshot) {
                    let wanted = wanted(&snapshot, &set, kind);
                    if look {
                        let looked = writer.look(version, &wanted).await;
                        resync = Instant::now() + if looked { RESYNC } else { RETRY };
                    }
                    writer.write(version, &snapshot, &wanted).await
                } else {
                    true
                }
            }
            Some(_) => true,
            None => {
                writer.forget();
                true
            }
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
fn version(set: &ObjectSet, kind: Kind) -> Option<&'static str> {
    let title = kind.to_string();
    let kind = set.kinds.iter().find(|kind| *kind.kind == *title)?;
    Some(kind.version).filter(|version| !version.is_empty())
}

struct Writer {
    report: Report,
    kind: Kind,
    /// What is known to be written; a route that was made anew has another uid there.
    written: Wanted,
    /// Routes with entries of ours that were found on the server.
    stale: BTreeSet<Key>,
    /// What everything was brought in line with last.
    in_line: Arc<[Arc<RouteParent>]>,
}

impl Writer {
    /// Knows nothing of the server any more: there are no routes.
    fn forget(&mut self) {
        self.written.clear();
        self.stale.clear();
        self.in_line = Arc::default();
    }

    /// Looks at every route, believing nothing of what was written before: those that say what they
    /// should are known to be written, and those with entries of ours that should have none are
    /// stale. Returns whether all were seen.
    async fn look(&mut self, version: &str, wanted: &Wanted) -> bool {
        self.forget();
        let api = self.api(version, None);
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = match timeout(ANSWER, api.list(&params)).await {
                Ok(Ok(page)) => page,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the state of routes cannot be read");
                    return false;
                }
                Err(_late) => {
                    tracing::warn!("the API server did not list the routes");
                    return false;
                }
            };
            for route in &page.items {
                self.compare(route, wanted);
            }
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => return true,
            }
            sleep(PACE).await;
        }
    }

    fn compare(&mut self, route: &DynamicObject, wanted: &Wanted) {
        let text = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or_default());
        let key = (text(&route.metadata.namespace), text(&route.metadata.name));
        let parents = parents(&route.data);
        match wanted.get(&key) {
            Some(ours) if merged(parents, ours, Timestamp::now()).is_none() => {
                self.written.insert(key, ours.clone());
            }
            Some(_) => {}
            None if has_ours(parents) => {
                self.stale.insert(key);
            }
            None => {}
        }
    }

    fn is_in_line(&self, snapshot: &Snapshot) -> bool {
        self.stale.is_empty() && Arc::ptr_eq(&self.in_line, &snapshot.route_parents)
    }

    /// Brings every route in line that is not known to be. Returns whether all of them are.
    async fn write(&mut self, version: &str, snapshot: &Snapshot, wanted: &Wanted) -> bool {
        let mut all = true;
        for (key, ours) in self.due(wanted) {
            let written = self.write_one(version, &key, &ours).await;
            sleep(PACE).await;
            match written {
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

    /// What differs from what is known to be written; nothing is to be left of ours where the list
    /// is empty.
    fn due(&self, wanted: &Wanted) -> Vec<(Key, Vec<Arc<RouteParent>>)> {
        let gone = self.written.keys().chain(&self.stale);
        let gone: BTreeSet<&Key> = gone.filter(|key| !wanted.contains_key(*key)).collect();
        let changed = wanted
            .iter()
            .filter(|(key, ours)| self.written.get(*key) != Some(ours))
            .map(|(key, ours)| (key.clone(), ours.clone()));
        let gone = gone.into_iter().map(|key| (key.clone(), Vec::new()));
        changed.chain(gone).collect()
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
            match api.patch_status(name, &params, &Patch::Merge(patch)).await {
                Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {
                    sleep(PACE).await;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                written => return written.map(drop),
            }
        }
    }

    fn api(&self, version: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let client = self.report.cluster.client.clone();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
            self.kind.group,
            version,
            self.kind.name,
        ));
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
fn wanted(snapshot: &Snapshot, set: &ObjectSet, kind: Kind) -> Wanted {
    let routes = set
        .objects
        .iter()
        .filter(|one| &*one.id.kind == kind.name && &*one.id.group == kind.group);
    let here: BTreeSet<_> = routes.map(|one| &one.id).collect();
    let mut wanted = Wanted::new();
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
