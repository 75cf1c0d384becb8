//! The API server goes away, comes back, forgets, and falls silent.

use std::process::Command;
use std::time::Duration;

use proxy_agent::objects::{KindPhase, ObjectSet};
use proxy_agent::source::kubernetes::Timing;

use super::api_server::{ApiServer, User};
use super::fixture::{Source, apply, delete, find, is, kind, namespace, quick, service};
use super::wire::Wire;

fn has(name: &'static str) -> impl Fn(&ObjectSet) -> bool {
    move |set| find(set, "Service", "ns", name).is_some()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn without_the_server_the_last_state_stays_and_the_trouble_is_told() {
    let server = ApiServer::start();
    let admin = server.admin().await;
    apply(&admin, namespace("ns")).await;
    apply(&admin, service("ns", "before", 80)).await;
    let mut source = Source::synced(server.config(User::Admin, None).await, quick()).await;
    assert_eq!(source.now().trouble, "");
    server.kill();
    let told = |set: &ObjectSet| {
        set.trouble
            .contains("no contact with the API server since 20")
    };
    let set = source.until("the trouble is told", told).await;
    assert!(
        has("before")(&set) && set.synced,
        "what was read stays in force"
    );
    source
        .until("the kind is not followed", |set| {
            is(set, "Service", KindPhase::Lost)
        })
        .await;
    server.run_server();
    apply(&admin, service("ns", "after", 80)).await;
    let set = source.until("it catches up", has("after")).await;
    assert!(has("before")(&set));
    source
        .until("the trouble is over", |set| set.trouble.is_empty())
        .await;
    source
        .until("the kind is followed", |set| {
            is(set, "Service", KindPhase::Synced)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn a_server_that_has_forgotten_is_listed_anew() {
    let server = ApiServer::start();
    let admin = server.admin().await;
    apply(&admin, namespace("ns")).await;
    apply(&admin, service("ns", "stays", 80)).await;
    apply(&admin, service("ns", "goes", 80)).await;
    let wire = Wire::to(server.port()).await;
    let timing = Timing {
        comeback: Duration::from_secs(1),
        ..quick()
    };
    let config = server.config(User::Admin, Some(wire.port())).await;
    let mut source = Source::synced(config, timing).await;
    let stays = find(&source.now(), "Service", "ns", "stays").unwrap();
    wire.cut();
    source
        .until("contact is lost", |set| !set.trouble.is_empty())
        .await;
    delete(&admin, &service("ns", "goes", 80)).await;
    apply(&admin, service("ns", "comes", 80)).await;
    assert!(has("goes")(&source.now()), "nothing of it is known");
    server.kill();
    compact(server.etcd_port());
    server.run_server();
    wire.mend();
    let expired = |set: &ObjectSet| {
        kind(set, "Service")
            .detail
            .contains("no longer has the changes")
    };
    source
        .until("the server says that it has forgotten", expired)
        .await;
    let set = source.until("what has come is there", has("comes")).await;
    assert!(!has("goes")(&set), "what has gone is gone");
    let now = find(&set, "Service", "ns", "stays").unwrap();
    assert!(
        std::sync::Arc::ptr_eq(&stays, &now),
        "a new list of the same object"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn a_watch_that_falls_silent_is_begun_anew() {
    let server = ApiServer::shared();
    let admin = server.admin().await;
    apply(&admin, namespace("silent")).await;
    let wire = Wire::to(server.port()).await;
    let config = || server.config(User::Admin, Some(wire.port()));
    let timing = Timing {
        silence: Duration::from_secs(2),
        ..quick()
    };
    let mut wary = Source::synced(config().await, timing).await;
    let trusting = Source::synced(config().await, quick()).await;
    wire.deafen();
    apply(&admin, service("silent", "late", 80)).await;
    let there = |set: &ObjectSet| find(set, "Service", "silent", "late").is_some();
    wary.until("the change is seen on a new watch", there).await;
    assert!(
        !there(&trusting.now()),
        "without a limit nothing is noticed"
    );
}

/// Makes etcd forget every version but the last, as the API server does every five minutes.
fn compact(port: u16) {
    let ask = |path: &str, body: &str| {
        let url = format!("http://127.0.0.1:{port}/v3/kv/{path}");
        let answer = Command::new("curl")
            .args(["-sf", "-m", "5", &url, "-d", body])
            .output();
        let answer = answer.unwrap();
        assert!(answer.status.success(), "{answer:?}");
        serde_json::from_slice::<serde_json::Value>(&answer.stdout).unwrap()
    };
    let read = ask("range", r#"{"key": "AA=="}"#);
    let revision = read["header"]["revision"].as_str().unwrap();
    ask(
        "compaction",
        &format!(r#"{{"revision": "{revision}", "physical": true}}"#),
    );
}
