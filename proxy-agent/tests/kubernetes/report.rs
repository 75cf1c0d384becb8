//! What is written to the API server, and by whom.

mod again;
mod office;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use proxy_agent::capture::CaptureStatus;
use proxy_agent::compile::{Compiler, Options};
use proxy_agent::model::Snapshot;
use proxy_agent::report::{CONTROLLER, Cluster, Identity, LeaseView, Report};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::api_server::{ApiServer, User};
use super::fixture::{
    NODE, PATIENCE, Source, api, apply, delete, find, namespace, quick, route, route_definition,
    service,
};

/// An event is written when its cause has lasted for 15 s, and is looked for every 5 s.
const EVENT_LIMIT: Duration = Duration::from_secs(40);

/// An agent without its data path: source, compilation, reports.
struct Agent {
    source: Source,
    stop: CancellationToken,
    report: JoinHandle<()>,
    compile: JoinHandle<()>,
}

impl Agent {
    async fn start(server: &ApiServer, name: &str) -> Self {
        let source = Source::synced(server.config(User::Admin, None).await, quick()).await;
        let mut sets = source.sets();
        let (publish, snapshots) = watch::channel(Arc::new(Snapshot::empty()));
        let compile = tokio::spawn(async move {
            let options = Options {
                node_name: Some(NODE.to_owned()),
                ..Options::default()
            };
            let mut compiler = Compiler::default();
            loop {
                let set = Arc::clone(&sets.borrow_and_update());
                publish.send_replace(Arc::new(compiler.compile(&[set], &options)));
                sets.changed().await.unwrap();
            }
        });
        let report = Report {
            cluster: Cluster {
                client: server.admin().await,
                objects: source.sets(),
            },
            snapshots,
            capture: CaptureStatus::default(),
            identity: Identity {
                namespace: Some("agents".to_owned()),
                name: name.to_owned(),
            },
            lease: LeaseView::default(),
        };
        let stop = CancellationToken::new();
        let report = tokio::spawn(report.run(stop.clone()));
        Self {
            source,
            stop,
            report,
            compile,
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.report).await.unwrap().unwrap();
        self.compile.abort();
    }
}

async fn with_routes() -> ApiServer {
    let server = ApiServer::start();
    let admin = server.admin().await;
    apply(&admin, namespace("agents")).await;
    apply(&admin, namespace("ns")).await;
    apply(&admin, service("ns", "s", 80)).await;
    apply(&admin, route_definition(&["v1"])).await;
    server
}

/// The route's parents once they are as `wanted`, and the version of the route then.
async fn parents(
    client: &Client,
    name: &str,
    what: &str,
    wanted: impl Fn(&[Value]) -> bool,
) -> (Vec<Value>, String) {
    let (api, name) = api(client, &route("v1", "ns", name, "s"));
    let mut last = Vec::new();
    let waited = timeout(PATIENCE, async {
        loop {
            let route = api.get(&name).await.unwrap();
            last = route
                .data
                .pointer("/status/parents")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            if wanted(&last) {
                return route.metadata.resource_version.unwrap();
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let version = waited.await;
    let version = version.unwrap_or_else(|_| {
        panic!(
            "not within {PATIENCE:?}: {what}; {}",
            Value::from(last.clone())
        )
    });
    (last, version)
}

fn ours(parents: &[Value]) -> Vec<&Value> {
    parents
        .iter()
        .filter(|one| one["controllerName"] == CONTROLLER)
        .collect()
}

/// `TYPE=STATUS/REASON` of each condition of our first entry.
fn conditions(parents: &[Value]) -> Vec<String> {
    let ours = ours(parents);
    let conditions = ours.first().and_then(|one| one["conditions"].as_array());
    let text = |one: &Value| {
        let part = |name: &str| one[name].as_str().unwrap().to_owned();
        format!("{}={}/{}", part("type"), part("status"), part("reason"))
    };
    conditions.into_iter().flatten().map(text).collect()
}

const GOOD: [&str; 2] = ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn a_route_says_what_became_of_it_and_others_entries_stay() {
    let server = with_routes().await;
    let admin = server.admin().await;
    apply(&admin, route("v1", "ns", "r", "s")).await;
    let (routes, _) = api(&admin, &route("v1", "ns", "r", "s"));
    let foreign = json!({"controllerName": "example.org/other", "parentRef": {"name": "g"}, "conditions": []});
    let patch = Patch::Merge(json!({"status": {"parents": [foreign]}}));
    routes
        .patch_status("r", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let agent = Agent::start(&server, "agent-1").await;

    let (said, version) =
        parents(&admin, "r", "it is accepted", |one| conditions(one) == GOOD).await;
    assert!(said.contains(&foreign), "{said:#?}");
    let entry = ours(&said)[0];
    assert_eq!(
        entry["parentRef"],
        json!({"group": "", "kind": "Service", "name": "s"})
    );
    assert_eq!(entry["conditions"][0]["observedGeneration"], 1);

    apply(&admin, route("v1", "ns", "another", "s")).await;
    parents(&admin, "another", "another one is accepted", |one| {
        conditions(one) == GOOD
    })
    .await;
    let (_, now) = parents(&admin, "r", "it is as it was", |_| true).await;
    assert_eq!(version, now, "nothing new is not written");

    let mut broken = route("v1", "ns", "r", "s");
    broken["spec"]["rules"][0]["backendRefs"][0]["name"] = json!("nowhere");
    apply(&admin, broken).await;
    let wanted = [
        "Accepted=True/Accepted",
        "ResolvedRefs=False/BackendNotFound",
    ];
    let (said, _) = parents(&admin, "r", "its reference is not resolved", |one| {
        conditions(one) == wanted
    })
    .await;
    assert_eq!(ours(&said)[0]["conditions"][1]["observedGeneration"], 2);

    let mut gateway = route("v1", "ns", "r", "s");
    gateway["spec"]["parentRefs"] = json!([{"name": "g"}]);
    apply(&admin, gateway).await;
    let (said, _) = parents(&admin, "r", "our entry is gone", |one| ours(one).is_empty()).await;
    assert_eq!(said, [foreign], "and the other's is not");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn what_others_write_at_the_same_time_is_not_lost() {
    let server = with_routes().await;
    let admin = server.admin().await;
    apply(&admin, route("v1", "ns", "r", "s")).await;
    let (routes, _) = api(&admin, &route("v1", "ns", "r", "s"));
    let agent = Agent::start(&server, "agent-1").await;
    // As another controller does it: read, change, write back, and again on a conflict.
    for round in 0..20 {
        let mut changed = route("v1", "ns", "r", "s");
        changed["spec"]["rules"][0]["name"] = json!(format!("round-{round}"));
        apply(&admin, changed).await;
        loop {
            let mut now = routes.get("r").await.unwrap();
            let version = now.metadata.resource_version.take();
            let parents = now.data.pointer_mut("/status/parents").map(Value::take);
            let mut parents = parents
                .and_then(|all| all.as_array().cloned())
                .unwrap_or_default();
            parents.retain(|one| one["controllerName"] != "example.org/other");
            parents.push(json!({"controllerName": "example.org/other", "parentRef": {"name": "g"}, "round": round}));
            let patch =
                json!({"metadata": {"resourceVersion": version}, "status": {"parents": parents}});
            let written = routes
                .patch_status("r", &PatchParams::default(), &Patch::Merge(patch))
                .await;
            match written {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                written => break drop(written.unwrap()),
            }
        }
    }
    let both = |all: &[Value]| {
        let last = all.iter().any(|one| one["round"] == 19);
        let generation = ours(all)
            .first()
            .map(|one| one["conditions"][0]["observedGeneration"].clone());
        last && generation == Some(json!(21))
    };
    parents(&admin, "r", "the last entry of each is there", both).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn one_agent_writes_and_when_it_leaves_another_does() {
    let server = with_routes().await;
    let admin = server.admin().await;
    let first = Agent::start(&server, "agent-1").await;
    until_holder(&admin, "agent-1").await;
    let second = Agent::start(&server, "agent-2").await;
    apply(&admin, route("v1", "ns", "r", "s")).await;
    parents(&admin, "r", "it is accepted", |one| conditions(one) == GOOD).await;
    assert_eq!(holder(&admin).await.as_deref(), Some("agent-1"));
    first.stop().await;
    let mut away = route("v1", "ns", "r", "s");
    away["spec"]["parentRefs"] = json!([{"name": "g"}]);
    apply(&admin, away).await;
    parents(&admin, "r", "the second one takes its entry away", |one| {
        one.is_empty()
    })
    .await;
    assert_eq!(holder(&admin).await.as_deref(), Some("agent-2"));
    second.stop().await;
    assert_eq!(holder(&admin).await, None, "given up");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn a_pod_that_is_not_captured_has_one_event() {
    let server = with_routes().await;
    let admin = server.admin().await;
    apply(&admin, namespace("events")).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": "events"}});
    apply(&admin, account).await;
    for (name, sidecar) in [("with", "linkerd-proxy"), ("without", "web")] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "events"},
            "spec": {"nodeName": NODE, "containers": [{"name": sidecar, "image": "none"}]}});
        apply(&admin, pod).await;
    }
    let agent = Agent::start(&server, "agent-1").await;
    assert!(find(&agent.source.now(), "Pod", "events", "with").is_some());
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(admin.clone(), "events");
    let list = || async { events.list(&ListParams::default()).await.unwrap().items };
    timeout(EVENT_LIMIT, async {
        while list().await.is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    agent.stop().await;
    let found = list().await;
    assert_eq!(found.len(), 1, "{found:#?}");
    let event = &found[0];
    let pod = event.regarding.as_ref().unwrap();
    assert_eq!(pod.name.as_deref(), Some("with"));
    assert!(pod.uid.is_some());
    assert_eq!(event.reason.as_deref(), Some("NotCaptured"));
    assert_eq!(event.reporting_controller.as_deref(), Some(CONTROLLER));
    assert_eq!(event.reporting_instance.as_deref(), Some("agent-1"));
    delete(&admin, &namespace("events")).await;
}

async fn holder(client: &Client) -> Option<String> {
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(client.clone(), "agents");
    let lease = leases.get_opt("proxy-agent").await.unwrap()?;
    lease.spec?.holder_identity
}

async fn until_holder(client: &Client, name: &str) {
    let waited = timeout(PATIENCE, async {
        while holder(client).await.as_deref() != Some(name) {
            sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap();
}
