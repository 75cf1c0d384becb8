//! Routes, written and changed with kubectl while requests run.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::load::{self, now_us};
use crate::scene::{PATIENCE, Scene};

const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo, namespace: mesh}
spec:
  parentRefs: [{group: '', kind: Service, name: echo, port: 80}]
  rules: [{backendRefs: [{name: @TO@, port: 80}]}]
";

/// Sends everything of Service `echo` to another one.
pub(crate) fn route_to(scene: &Scene, service: &str) -> Result<()> {
    scene.cluster.apply(&ROUTE.replace("@TO@", service))
}

/// Takes [`route_to`] back.
pub(crate) fn remove_route(scene: &Scene) -> Result<()> {
    scene
        .cluster
        .kubectl(["delete", "httproute", "-n", "mesh", "echo"])
        .map(drop)
}

pub(crate) fn a_route_created_changed_and_deleted_takes_effect(scene: &Scene) -> Result<()> {
    let mut delays = Vec::new();
    for _ in 0..5 {
        for service in ["echo-node1", "echo-node2"] {
            let applied = now_us();
            route_to(scene, service)?;
            for node in 1..=2 {
                delays.push(wait_only(scene, node, service, applied)?);
            }
        }
        // Who is not captured knows no routes.
        scene.ensure_ordinary("plain/outsider", "http://echo.mesh/")?;
        let removed = now_us();
        remove_route(scene)?;
        for node in 1..=2 {
            delays.push(wait_other(scene, node, "echo-node2", removed)?);
        }
    }
    delays.sort();
    let median = delays[delays.len() / 2];
    let last = delays[delays.len() - 1];
    println!("     from kubectl's start to the effect: median {median:.0?}, longest {last:.0?}");
    Ok(())
}

pub(crate) fn a_route_shows_whether_it_is_accepted_and_whole(scene: &Scene) -> Result<()> {
    let shows = |resolved: &str| {
        scene.until(&format!("the route shows ResolvedRefs={resolved}"), || {
            let route = ["get", "httproute", "-n", "mesh", "echo"];
            let route = scene.cluster.kubectl_json(route)?;
            let parents = route["status"]["parents"]
                .as_array()
                .context("no parents")?;
            ensure!(parents.len() == 1, "parents: {parents:?}");
            ensure!(
                parents[0]["controllerName"] == "proxy-agent.io/mesh",
                "{parents:?}"
            );
            let conditions = parents[0]["conditions"]
                .as_array()
                .context("no conditions")?;
            let is = |kind: &str, status: &str| {
                conditions
                    .iter()
                    .any(|condition| condition["type"] == kind && condition["status"] == status)
            };
            ensure!(
                is("Accepted", "True") && is("ResolvedRefs", resolved),
                "{conditions:?}"
            );
            Ok(())
        })
    };
    route_to(scene, "echo-node1")?;
    let whole = shows("True");
    route_to(scene, "missing")?;
    let broken = shows("False");
    remove_route(scene)?;
    whole.and(broken)?;
    scene.wait_captured()
}

/// Waits until a node's load is answered by this pod alone; returns the time from `since_us` to the
/// first request that began the unbroken row of them.
fn wait_only(scene: &Scene, node: u8, pod: &str, since_us: u128) -> Result<Duration> {
    scene.until(&format!("only {pod} answers node{node}"), || {
        let sent = load::since(scene, (node, "kept"), since_us)?;
        let others = sent.iter().rposition(|sent| sent.detail != pod);
        let first = others.map_or(0, |last_other| last_other + 1);
        // So many in a row do not come by chance.
        ensure!(
            sent.len() - first >= 30,
            "answers still come from elsewhere"
        );
        delay(since_us, sent[first].at_us)
    })
}

/// Waits until a node's load is answered by another pod again.
fn wait_other(scene: &Scene, node: u8, pod: &str, since_us: u128) -> Result<Duration> {
    scene.until(&format!("others than {pod} answer node{node}"), || {
        let sent = load::since(scene, (node, "kept"), since_us)?;
        let other = sent.iter().find(|sent| sent.detail != pod);
        delay(since_us, other.context("no other has answered")?.at_us)
    })
}

fn delay(from_us: u128, to_us: u128) -> Result<Duration> {
    let micros = u64::try_from(to_us - from_us).context("a time span")?;
    let delay = Duration::from_micros(micros);
    ensure!(delay <= PATIENCE, "it took {delay:?}");
    Ok(delay)
}
