//! A source under test, and the objects that it is to follow.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams,
};
use kube::runtime::wait::delete::delete_and_finalize;
use kube::{Client, Config};
use proxy_agent::objects::{KindPhase, KindState, Located, ObjectSet};
use proxy_agent::source::kubernetes::{KubernetesSource, Timing, client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long a state may take to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The node whose pods are followed.
pub(crate) const NODE: &str = "node-1";

/// Waits of tests: short, so that every way is taken within [`PATIENCE`].
pub(crate) fn quick() -> Timing {
    Timing {
        discovery: Duration::from_millis(500),
        request: Duration::from_secs(2),
        absent: Duration::from_secs(1),
        forbidden: Duration::from_millis(500),
        doubted: Duration::from_millis(100),
        comeback: Duration::from_millis(200),
        ..Timing::default()
    }
}

/// A source that runs until it is dropped.
pub(crate) struct Source {
    sets: watch::Receiver<Arc<ObjectSet>>,
    task: JoinHandle<()>,
}

impl Source {
    /// Starts one.
    pub(crate) fn start(config: Config, timing: Timing) -> Self {
        let source = KubernetesSource::new(client(config).unwrap(), NODE, timing);
        let sets = source.sets();
        let task = tokio::spawn(async move {
            panic!("the source ended: {}", source.run().await);
        });
        Self { sets, task }
    }

    /// Starts one and waits for its first full list.
    pub(crate) async fn synced(config: Config, timing: Timing) -> Self {
        let mut source = Self::start(config, timing);
        source.until("it is synced", |set| set.synced).await;
        source
    }

    /// What it holds now.
    pub(crate) fn now(&self) -> Arc<ObjectSet> {
        Arc::clone(&self.sets.borrow())
    }

    /// What it holds, to be followed.
    pub(crate) fn sets(&self) -> watch::Receiver<Arc<ObjectSet>> {
        self.sets.clone()
    }

    /// Waits until what it holds is as `wanted`.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&ObjectSet) -> bool,
    ) -> Arc<ObjectSet> {
        let waited = timeout(PATIENCE, self.sets.wait_for(|set| wanted(set))).await;
        let set = waited.ok().map(|set| Arc::clone(&set.unwrap()));
        set.unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}; {}", self.summary()))
    }

    fn summary(&self) -> String {
        let set = self.now();
        let ids: Vec<_> = set.objects.iter().map(|one| one.id.to_string()).collect();
        let problems: Vec<_> = set.problems.iter().map(ToString::to_string).collect();
        format!(
            "synced {}, trouble {:?}, kinds {:#?}, problems {problems:#?}, objects {ids:?}",
            set.synced, set.trouble, set.kinds
        )
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The object of that kind and name in the namespace.
pub(crate) fn find(
    set: &ObjectSet,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Option<Arc<Located>> {
    let is = |one: &&Arc<Located>| {
        (&*one.id.kind, &*one.id.namespace, &*one.id.name) == (kind, namespace, name)
    };
    set.objects.iter().find(is).cloned()
}

/// The state of the kind of that title.
pub(crate) fn kind<'s>(set: &'s ObjectSet, title: &str) -> &'s KindState {
    set.kinds.iter().find(|kind| &*kind.kind == title).unwrap()
}

/// Whether the kind of that title is in that phase.
pub(crate) fn is(set: &ObjectSet, title: &str, phase: KindPhase) -> bool {
    kind(set, title).phase == phase
}

/// Applies a manifest as somebody with every right, once its kind is served.
pub(crate) async fn apply(client: &Client, object: Value) {
    let (api, name) = api(client, &object);
    let patch = Patch::Apply(object);
    let params = PatchParams::apply("test").force();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match api.patch(&name, &params, &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 && Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            applied => {
                applied.unwrap();
                return;
            }
        }
    }
}

/// Deletes what a manifest names.
pub(crate) async fn delete(client: &Client, object: &Value) {
    let (api, name) = api(client, object);
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

/// As [`delete`], and waits until the server has finished with it.
pub(crate) async fn delete_and_wait(client: &Client, object: &Value) {
    let (api, name) = api(client, object);
    let params = DeleteParams::default();
    let gone = timeout(PATIENCE, delete_and_finalize(api, &name, &params)).await;
    gone.expect("it is finalized in time").unwrap();
}

/// The objects of a manifest's kind and namespace, and its name.
pub(crate) fn api(client: &Client, object: &Value) -> (Api<DynamicObject>, String) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let version = text("/apiVersion").unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = text("/kind").unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api = match text("/metadata/namespace") {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    (api, text("/metadata/name").unwrap().to_owned())
}

/// A namespace.
pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name, "labels": {"proxy-agent.io/capture": "enabled", "team": "x"},
    }})
}

/// A Service with one port.
pub(crate) fn service(namespace: &str, name: &str, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port}]},
    })
}

/// A route of a Service, to the Service itself.
pub(crate) fn route(version: &str, namespace: &str, name: &str, service: &str) -> Value {
    json!({"apiVersion": format!("gateway.networking.k8s.io/{version}"), "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": service}],
            "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
        },
    })
}

/// The definition of HTTPRoute in some versions, the first one stored; it lets every field pass.
pub(crate) fn route_definition(versions: &[&str]) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = |name: &&str| {
        json!({
            "name": name, "served": true, "storage": *name == versions[0],
            "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
        })
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "httproutes.gateway.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": "gateway.networking.k8s.io", "scope": "Namespaced",
            "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute"},
            "versions": versions.iter().map(version).collect::<Vec<_>>(),
        },
    })
}
