//! Kinds that come with a definition: absent, older, forbidden, and objects that cannot be read.

use std::sync::Arc;

use proxy_agent::objects::{KindPhase, Object, ObjectSet};
use serde_json::{Value, json};

use super::api_server::{ApiServer, User};
use super::fixture::{
    Source, apply, delete, find, is, kind, namespace, quick, route, route_definition, service,
};

const ROUTES: &str = "HTTPRoute.gateway.networking.k8s.io";

#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn a_kind_may_come_and_go() {
    let server = ApiServer::start();
    let admin = server.admin().await;
    apply(&admin, namespace("ns")).await;
    let mut source = Source::synced(server.config(User::Admin, None).await, quick()).await;
    let set = source.now();
    assert!(is(&set, ROUTES, KindPhase::Absent), "{:?}", set.kinds);
    assert_eq!(set.trouble, "", "absence is no trouble");

    apply(&admin, route_definition(&["v1"])).await;
    source
        .until("the kind is followed", |set| {
            is(set, ROUTES, KindPhase::Synced)
        })
        .await;
    apply(&admin, route("v1", "ns", "r", "s")).await;
    let there = |set: &ObjectSet| find(set, "HTTPRoute", "ns", "r").is_some();
    let set = source.until("its object is there", there).await;
    assert_eq!(
        (kind(&set, ROUTES).version, kind(&set, ROUTES).objects),
        ("v1", 1)
    );

    delete(&admin, &route_definition(&["v1"])).await;
    let set = source
        .until("the kind is absent again", |set| {
            is(set, ROUTES, KindPhase::Absent)
        })
        .await;
    assert!(!there(&set), "its objects are gone with it");
    assert!(find(&set, "Namespace", "", "ns").is_some(), "others stay");
}

#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn an_older_version_is_read_until_a_newer_one_is_served() {
    let server = ApiServer::start();
    let admin = server.admin().await;
    apply(&admin, namespace("ns")).await;
    apply(&admin, route_definition(&["v1beta1"])).await;
    let mut source = Source::synced(server.config(User::Admin, None).await, quick()).await;
    source
        .until("v1beta1 is read", |set| {
            kind(set, ROUTES).version == "v1beta1"
        })
        .await;
    apply(&admin, route("v1beta1", "ns", "r", "s")).await;
    let there = |set: &ObjectSet| find(set, "HTTPRoute", "ns", "r").is_some();
    source.until("its object is there", there).await;

    apply(&admin, route_definition(&["v1beta1", "v1"])).await;
    let newer = |set: &ObjectSet| {
        assert!(there(set), "in force all the time");
        kind(set, ROUTES).version == "v1" && is(set, ROUTES, KindPhase::Synced)
    };
    source.until("v1 is read", newer).await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn a_kind_that_may_not_be_read_is_told_and_waited_for() {
    let server = ApiServer::start();
    let admin = server.admin().await;
    apply(&admin, namespace("ns")).await;
    apply(&admin, route_definition(&["v1"])).await;
    apply(&admin, route("v1", "ns", "r", "s")).await;
    let mut source = Source::start(server.config(User::Agent, None).await, quick());
    let refused = |set: &ObjectSet| is(set, "Service", KindPhase::Forbidden);
    let set = source.until("services are forbidden", refused).await;
    assert!(!set.synced, "not without Services");
    source
        .until("the trouble names them", |set| {
            set.trouble.contains("services")
        })
        .await;

    for object in role(&["namespaces", "pods", "services"], "") {
        apply(&admin, object).await;
    }
    for object in role(&["endpointslices"], "discovery.k8s.io") {
        apply(&admin, object).await;
    }
    let set = source
        .until("it is synced without routes", |set| set.synced)
        .await;
    assert!(is(&set, ROUTES, KindPhase::Forbidden), "{:?}", set.kinds);
    assert_eq!(set.trouble, "");
    assert!(find(&set, "HTTPRoute", "ns", "r").is_none());

    for object in role(&["httproutes"], "gateway.networking.k8s.io") {
        apply(&admin, object).await;
    }
    source
        .until("routes are read when they may be", |set| {
            find(set, "HTTPRoute", "ns", "r").is_some()
        })
        .await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn an_object_that_cannot_be_read_keeps_its_last_good_version() {
    let server = ApiServer::start();
    let admin = server.admin().await;
    apply(&admin, namespace("ns")).await;
    apply(&admin, service("ns", "s", 80)).await;
    apply(&admin, route_definition(&["v1"])).await;
    apply(&admin, route("v1", "ns", "good", "s")).await;
    apply(&admin, route("v1", "ns", "other", "s")).await;
    let mut bad = route("v1", "ns", "bad", "s");
    bad["spec"]["rules"] = json!("none");
    apply(&admin, bad).await;
    let mut source = Source::synced(server.config(User::Admin, None).await, quick()).await;
    let set = source.now();
    assert!(find(&set, "HTTPRoute", "ns", "bad").is_none());
    assert_eq!(
        problems(&set),
        ["bad spec.rules"],
        "named once, with its field"
    );
    let good = find(&set, "HTTPRoute", "ns", "good").unwrap();

    let mut worse = route("v1", "ns", "good", "s");
    worse["spec"]["conditions"] = json!([]);
    apply(&admin, worse).await;
    let named = |set: &ObjectSet| problems(set).contains(&"good spec.conditions".to_owned());
    let set = source.until("the unknown field is named", named).await;
    let kept = find(&set, "HTTPRoute", "ns", "good").unwrap();
    assert!(Arc::ptr_eq(&good, &kept), "the last good version");
    assert!(
        find(&set, "HTTPRoute", "ns", "other").is_some(),
        "others are not harmed"
    );

    let mut mended = route("v1", "ns", "good", "s");
    mended["spec"]["rules"][0]["name"] = json!("mended");
    apply(&admin, mended).await;
    let set = source.until("the problem is gone", |set| !named(set)).await;
    let now = find(&set, "HTTPRoute", "ns", "good").unwrap();
    let Object::HttpRoute(now) = &now.object else {
        panic!("{now:?}");
    };
    let rules = now.spec.rules.as_ref().unwrap();
    assert_eq!(rules[0].name.as_deref(), Some("mended"));
}

fn problems(set: &ObjectSet) -> Vec<String> {
    let line = |problem: &proxy_agent::model::Problem| {
        let object = problem.object.as_ref().unwrap();
        format!("{} {}", object.name, problem.field)
    };
    set.problems.iter().map(line).collect()
}

/// The right to read some kinds, given to the agent.
fn role(resources: &[&str], group: &str) -> [Value; 2] {
    let name = format!("read-{}", resources[0]);
    let api = "rbac.authorization.k8s.io";
    [
        json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [{"apiGroups": [group], "resources": resources,
                "verbs": ["get", "list", "watch"]}]}),
        json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": api, "kind": "User", "name": "agent"}]}),
    ]
}
