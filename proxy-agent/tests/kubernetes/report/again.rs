//! Routes that are written again, and those that are not.

use std::time::Duration;

use kube::Client;
use proxy_agent::objects::ObjectSet;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Agent, GOOD, conditions, parents, until_holder, with_routes};
use crate::fixture::{PATIENCE, apply, delete, delete_and_wait, find, route, route_definition};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn a_route_that_is_made_anew_has_its_state_again() {
    let server = with_routes().await;
    let admin = server.admin().await;
    let agent = Agent::start(&server, "agent-1").await;
    let good = |one: &[Value]| conditions(one) == GOOD;
    apply(&admin, route("v1", "ns", "r", "s")).await;
    parents(&admin, "r", "it is accepted", good).await;
    for round in 1..=5 {
        // At once: what the agent sees of it is one change.
        delete(&admin, &route("v1", "ns", "r", "s")).await;
        apply(&admin, route("v1", "ns", "r", "s")).await;
        parents(&admin, "r", &format!("accepted again, {round}"), good).await;
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn a_definition_that_is_made_anew_has_routes_with_a_state_again() {
    let server = with_routes().await;
    let admin = server.admin().await;
    let mut agent = Agent::start(&server, "agent-1").await;
    let good = |one: &[Value]| conditions(one) == GOOD;
    apply(&admin, route("v1", "ns", "r", "s")).await;
    parents(&admin, "r", "it is accepted", good).await;
    // A definition outlives its objects by a moment in which nothing can be made of it.
    delete_and_wait(&admin, &route_definition(&["v1"])).await;
    let gone = |set: &ObjectSet| find(set, "HTTPRoute", "ns", "r").is_none();
    agent.source.until("the routes are gone", gone).await;
    apply(&admin, route_definition(&["v1"])).await;
    apply(&admin, route("v1", "ns", "r", "s")).await;
    parents(&admin, "r", "it is accepted again", good).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn routes_that_say_what_they_should_are_not_fetched_one_by_one() {
    const ROUTES: usize = 20;
    let server = with_routes().await;
    let admin = server.admin().await;
    let name = |number: usize| format!("r{number}");
    for number in 0..ROUTES {
        apply(&admin, route("v1", "ns", &name(number), "s")).await;
    }
    let good = |one: &[Value]| conditions(one) == GOOD;
    let first = Agent::start(&server, "agent-1").await;
    for number in 0..ROUTES {
        parents(&admin, &name(number), "it is accepted", good).await;
    }
    first.stop().await;
    let (before, ours) = (route_reads(&admin).await, 2);
    let second = Agent::start(&server, "agent-2").await;
    until_holder(&admin, "agent-2").await;
    let mut changed = route("v1", "ns", "r0", "s");
    changed["spec"]["rules"][0]["name"] = json!("changed");
    apply(&admin, changed).await;
    timeout(PATIENCE, async {
        while route_reads(&admin).await == before {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("the control: the one that changed is read");
    second.stop().await;
    let reads = route_reads(&admin).await - before;
    assert!(
        reads <= ours,
        "{reads} routes were read for one that changed"
    );
}

/// Reads of single HTTPRoutes that the server has counted.
async fn route_reads(client: &Client) -> u64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let page = client.request_text(request).await.unwrap();
    let reads = page.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && line.contains("resource=\"httproutes\"")
            && line.contains("verb=\"GET\"")
    });
    let count = |line: &str| {
        line.rsplit(' ')
            .next()
            .and_then(|count| count.parse::<u64>().ok())
    };
    reads.filter_map(count).sum()
}
