//! Objects of kinds that every API server has.

use std::sync::Arc;

use proxy_agent::objects::{Object, Origin};
use serde_json::{Value, json};

use super::api_server::{ApiServer, User};
use super::fixture::{NODE, Source, apply, delete, find, namespace, quick, service};

#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn objects_are_followed_from_the_first_list_on() {
    let server = ApiServer::shared();
    let admin = server.admin().await;
    apply(&admin, namespace("follow")).await;
    apply(&admin, service("follow", "old", 80)).await;
    apply(&admin, service("follow", "still", 80)).await;
    let mut source = Source::synced(server.config(User::Admin, None).await, quick()).await;
    let first = source.now();
    assert_eq!(first.origin, Origin::Cluster);
    assert_eq!(first.trouble, "");
    let old = find(&first, "Service", "follow", "old").unwrap();
    let still = find(&first, "Service", "follow", "still").unwrap();
    assert_eq!(old.place.to_string(), "kubernetes");
    assert!(find(&first, "Namespace", "", "follow").is_some());

    apply(&admin, service("follow", "old", 81)).await;
    let changed = source
        .until("the change is seen", |set| {
            find(set, "Service", "follow", "old").is_some_and(|now| !Arc::ptr_eq(&now, &old))
        })
        .await;
    let now = find(&changed, "Service", "follow", "still").unwrap();
    assert!(
        Arc::ptr_eq(&now, &still),
        "what did not change is the same object"
    );

    delete(&admin, &service("follow", "old", 81)).await;
    let gone = |set: &_| find(set, "Service", "follow", "old").is_none();
    let set = source.until("what is deleted is gone", gone).await;
    assert!(find(&set, "Service", "follow", "still").is_some());
}

#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn a_change_of_what_is_never_read_is_no_change() {
    let server = ApiServer::shared();
    let admin = server.admin().await;
    apply(&admin, namespace("unread")).await;
    apply(&admin, service("unread", "a", 80)).await;
    let mut source = Source::synced(server.config(User::Admin, None).await, quick()).await;
    let before = find(&source.now(), "Service", "unread", "a").unwrap();
    let mut annotated = service("unread", "a", 80);
    annotated["metadata"]["annotations"] = json!({"example.org/seen": "yes"});
    apply(&admin, annotated).await;
    // Events of one kind come in order: when the second is there, the first was taken in.
    apply(&admin, service("unread", "b", 80)).await;
    let there = |set: &_| find(set, "Service", "unread", "b").is_some();
    let set = source.until("the second change is seen", there).await;
    let after = find(&set, "Service", "unread", "a").unwrap();
    assert!(Arc::ptr_eq(&before, &after), "the same object");
    let mut balanced = service("unread", "a", 80);
    balanced["metadata"]["annotations"] = json!({"proxy-agent.io/balance": "round-robin"});
    apply(&admin, balanced).await;
    let other = |set: &_| {
        find(set, "Service", "unread", "a").is_some_and(|now| !Arc::ptr_eq(&now, &before))
    };
    source
        .until("an annotation of ours is a change", other)
        .await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn the_node_itself_is_followed_and_no_other() {
    let server = ApiServer::start();
    let admin = server.admin().await;
    let node = |name: &str, zone: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": name, "labels": {"topology.kubernetes.io/zone": zone},
        }})
    };
    apply(&admin, node(NODE, "a")).await;
    apply(&admin, node("node-2", "b")).await;
    let mut source = Source::synced(server.config(User::Admin, None).await, quick()).await;
    let there = |set: &_| find(set, "Node", "", NODE).is_some();
    let set = source.until("the node is there", there).await;
    assert!(find(&set, "Node", "", "node-2").is_none(), "another one");
    let before = find(&set, "Node", "", NODE).unwrap();

    apply(&admin, node(NODE, "c")).await;
    let moved = |set: &_| find(set, "Node", "", NODE).is_some_and(|now| now != before);
    source.until("another zone is a change", moved).await;
}

#[tokio::test]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn pods_are_this_nodes_until_objects_select_pods_of_all_nodes() {
    let server = ApiServer::start();
    let admin = server.admin().await;
    apply(&admin, namespace("pods")).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": "pods"}});
    apply(&admin, account).await;
    for (name, node) in [("near", NODE), ("far", "node-2")] {
        apply(&admin, pod(name, node)).await;
    }
    let mut source = Source::synced(server.config(User::Admin, None).await, quick()).await;
    let set = source.now();
    let near = find(&set, "Pod", "pods", "near").unwrap();
    let Object::Pod(near) = &near.object else {
        panic!("{near:?}");
    };
    assert!(near.metadata.uid.is_some() && near.metadata.managed_fields.is_none());
    assert!(find(&set, "Pod", "pods", "far").is_none(), "another node's");
    assert!(
        set.kinds
            .iter()
            .all(|kind| &*kind.kind != "Pod (other nodes)")
    );

    apply(&admin, linkerd_definition()).await;
    let served = |set: &_| super::fixture::kind(set, "Service.linkerd.io").version == "v1";
    source.until("the kind is followed", served).await;
    apply(&admin, linkerd_service()).await;
    let far = |set: &_| find(set, "Pod", "pods", "far").is_some();
    source
        .until("the other nodes' pods are followed", far)
        .await;
    delete(&admin, &linkerd_service()).await;
    source
        .until("they are not followed any more", |set| !far(set))
        .await;
}

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "pods"},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}]}})
}

fn linkerd_definition() -> Value {
    let mut definition = super::fixture::route_definition(&["v1"]);
    definition["metadata"] = json!({"name": "services.linkerd.io"});
    definition["spec"]["group"] = json!("linkerd.io");
    definition["spec"]["names"] = json!({"kind": "Service", "plural": "services"});
    definition
}

fn linkerd_service() -> Value {
    json!({"apiVersion": "linkerd.io/v1", "kind": "Service",
        "metadata": {"name": "s", "namespace": "pods"},
        "spec": {"port": 80, "host": "s", "label": "app=s"}})
}
