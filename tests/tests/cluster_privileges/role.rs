//! The roles: each resource and each verb of them is taken away. What can no longer be read is
//! forbidden in the status, and the rest is in effect, unless nothing is complete without it. What can
//! no longer be written is a line in the log.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use proxy_e2e::cluster::Cluster;
use proxy_e2e::until_some_within;
use serde_json::{Value, json};

use super::pod::{container, drop_capability};
use super::{NAMESPACE, PATIENCE, bare, daemonset, replace};

const ROUTES: &str = include_str!("routes.yaml");

/// The routes' kinds, whose state is written.
const ROUTE_KINDS: [&str; 5] = [
    "httproute.gateway.networking.k8s.io",
    "grpcroute.gateway.networking.k8s.io",
    "tcproute.gateway.networking.k8s.io",
    "tlsroute.gateway.networking.k8s.io",
    "httproute.policy.linkerd.io",
];

/// What the agent logs when it may not do what is not reading: group, resource, verb, words.
const WRITES: &[(&str, &str, &str, &str)] = &[
    (GATEWAY_API, "grpcroutes", "get", "the state of GRPCRoute"),
    (
        GATEWAY_API,
        "grpcroutes/status",
        "patch",
        "the state of GRPCRoute",
    ),
    (
        GATEWAY_API,
        "httproutes",
        "get",
        "the state of HTTPRoute.gateway",
    ),
    (
        GATEWAY_API,
        "httproutes/status",
        "patch",
        "the state of HTTPRoute.gateway",
    ),
    (GATEWAY_API, "tcproutes", "get", "the state of TCPRoute"),
    (
        GATEWAY_API,
        "tcproutes/status",
        "patch",
        "the state of TCPRoute",
    ),
    (GATEWAY_API, "tlsroutes", "get", "the state of TLSRoute"),
    (
        GATEWAY_API,
        "tlsroutes/status",
        "patch",
        "the state of TLSRoute",
    ),
    (POLICY, "httproutes", "get", "the state of HTTPRoute.policy"),
    (
        POLICY,
        "httproutes/status",
        "patch",
        "the state of HTTPRoute.policy",
    ),
    (LEASES, "leases", "get", "the Lease cannot be looked at"),
    (LEASES, "leases", "create", "the Lease cannot be looked at"),
    (LEASES, "leases", "update", "the Lease cannot be looked at"),
    (EVENTS, "events", "create", "an event is not written"),
];

/// How the agent signs what it writes.
const CONTROLLER: &str = "proxy-agent.io/mesh";

/// Its definitions are its authors', in the kit; those of other groups are made up.
const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// Group of Linkerd's routes.
const POLICY: &str = "policy.linkerd.io";
const LEASES: &str = "coordination.k8s.io";
const EVENTS: &str = "events.k8s.io";

/// Group and resource of the kinds without which the agent does not become ready.
const NEEDED: [(&str, &str); 4] = [
    ("", "namespaces"),
    ("", "pods"),
    ("", "services"),
    ("discovery.k8s.io", "endpointslices"),
];

/// The verbs of following a kind.
const READS: [&str; 2] = ["list", "watch"];

/// Tries every rule of both roles.
pub(crate) fn each_rule(cluster: &Cluster) -> Result<()> {
    serve_every_kind(cluster)?;
    cluster.apply(ROUTES)?;
    give_occasion_to_write(cluster)?;
    await_forbidden(cluster, |_| false).context("as the chart has it")?;
    await_effect(cluster, true)?;
    await_written(cluster)?;
    one_lease_alone(cluster)?;
    for kind in ["clusterrole", "role"] {
        let get = ["get", kind, NAMESPACE, "--namespace", NAMESPACE];
        let granted = cluster.kubectl_json(get)?;
        let rules = granted["rules"].as_array().context("rules")?;
        for (number, rule) in rules.iter().enumerate() {
            for resource in texts(&rule["resources"]) {
                each_verb(cluster, &granted, number, resource)?;
            }
        }
        cluster.apply(&bare(&granted).to_string())?;
    }
    Ok(())
}

/// Takes away what a rule allows with one of its resources.
fn each_verb(cluster: &Cluster, granted: &Value, number: usize, resource: &str) -> Result<()> {
    let rule = &granted["rules"][number];
    let group = texts(&rule["apiGroups"]).next().unwrap_or_default();
    for verb in texts(&rule["verbs"]) {
        let begun = Instant::now();
        cluster.apply(&bare(&without(granted, number, resource, verb)).to_string())?;
        // What is written already is not written again.
        if [GATEWAY_API, POLICY].contains(&group) && !READS.contains(&verb) {
            for kind in ROUTE_KINDS {
                cluster.kubectl(["delete", kind, "web", "--namespace", "shop"])?;
            }
            cluster.apply(ROUTES)?;
        }
        if resource == "leases" && verb == "create" {
            delete(cluster, "lease")?;
        }
        // Who follows a kind already is not asked again whether it may.
        delete(cluster, "pods")?;
        let gone = begun.elapsed();
        let outcome = if READS.contains(&verb) {
            // What was listed once is listed again, also where it cannot be watched.
            let complete = verb == "watch" || !NEEDED.contains(&(group, resource));
            await_forbidden(cluster, |kind| kind.is(group, resource))
                .and_then(|()| await_effect(cluster, complete))
        } else {
            let mut known = WRITES.iter();
            let known =
                known.find(|(of, what, to, _)| (*of, *what, *to) == (group, resource, verb));
            let (.., words) = known.with_context(|| format!("no proof: {verb} {resource}"))?;
            await_log(cluster, words)
        };
        let what = format!("without {verb} of {resource}.{group}");
        outcome.with_context(|| what.clone())?;
        println!(
            "{what}: as expected ({:.0?}, agent gone after {gone:.0?})",
            begun.elapsed()
        );
    }
    Ok(())
}

/// The role without one verb of one resource.
fn without(role: &Value, number: usize, resource: &str, verb: &str) -> Value {
    let mut role = role.clone();
    let mut alone = role["rules"][number].clone();
    alone["resources"] = json!([resource]);
    retain(&mut alone["verbs"], |other| other != verb);
    retain(&mut role["rules"][number]["resources"], |other| {
        other != resource
    });
    if let Some(rules) = role["rules"].as_array_mut() {
        rules.push(alone);
        rules.retain(|rule| rule["resources"] != json!([]) && rule["verbs"] != json!([]));
    }
    role
}

fn retain(list: &mut Value, keep: impl Fn(&str) -> bool) {
    if let Some(items) = list.as_array_mut() {
        items.retain(|item| item.as_str().is_some_and(&keep));
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// A kind as the status names it.
struct Kind<'a> {
    name: &'a str,
    group: &'a str,
}

impl<'a> Kind<'a> {
    /// From `Pod (this node)` or `Route.linkerd.io`.
    fn parse(text: &'a str) -> Self {
        let text = text.split(' ').next().unwrap_or(text);
        let (name, group) = text.split_once('.').unwrap_or((text, ""));
        Self { name, group }
    }

    fn plural(&self) -> String {
        let name = self.name.to_lowercase();
        match name.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{name}s"),
        }
    }

    fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural() == plural
    }
}

/// Kinds that are not installed are not asked for, so nothing could be forbidden about them.
fn serve_every_kind(cluster: &Cluster) -> Result<()> {
    let seen = until_some_within(PATIENCE, "the agent has read what there is", || {
        let status = cluster.agent_status(1)?;
        let ready = status["overview"]["not_ready"] == json!([]);
        Ok(ready.then_some(status))
    })?;
    for (text, state, detail) in kinds(&seen) {
        if state != "absent" || !detail.starts_with("not served in ") {
            continue;
        }
        let kind = Kind::parse(text);
        if kind.group == GATEWAY_API {
            continue;
        }
        let version = detail.trim_start_matches("not served in ");
        let version = version.split(',').next().unwrap_or(version);
        let (plural, group) = (kind.plural(), kind.group);
        let names = json!({"kind": kind.name, "plural": plural});
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [{
                "name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}},
            }]},
        });
        cluster.apply(&definition.to_string())?;
    }
    cluster.apply_gateway_api("standard")
}

/// Kind, state and detail of what the source follows.
fn kinds(status: &Value) -> impl Iterator<Item = (&str, &str, &str)> {
    let kinds = status["overview"]["sources"][0]["kinds"].as_array();
    kinds.into_iter().flatten().filter_map(|kind| {
        let text = |field: &str| kind[field].as_str();
        Some((text("kind")?, text("state")?, text("detail")?))
    })
}

/// An agent that cannot capture the pod writes an event about it; what it could not write is
/// logged for those who ask.
fn give_occasion_to_write(cluster: &Cluster) -> Result<()> {
    let mut set = daemonset(cluster)?;
    let pod = &mut set["spec"]["template"]["spec"];
    drop_capability(pod, "SYS_PTRACE");
    let environment = container(pod)["env"].as_array_mut().context("env")?;
    for variable in environment {
        if variable["name"] == "PROXY_AGENT_LOG" {
            variable["value"] = json!("info,proxy_agent::report=debug");
        }
    }
    replace(cluster, &set)
}

/// With all rules, everything is written: the controls of what is not without one.
fn await_written(cluster: &Cluster) -> Result<()> {
    until_some_within(PATIENCE, "state, Lease and event are written", || {
        for kind in ROUTE_KINDS {
            let route = ["get", kind, "web", "--namespace", "shop"];
            let route = cluster.kubectl_json(route)?;
            let controller = &route["status"]["parents"][0]["controllerName"];
            ensure!(controller == CONTROLLER, "{kind}: {}", route["status"]);
        }
        let lease = ["get", "lease", NAMESPACE, "--namespace", NAMESPACE];
        let holder = &cluster.kubectl_json(lease)?["spec"]["holderIdentity"];
        ensure!(holder.as_str().is_some_and(|name| !name.is_empty()));
        let events = cluster.kubectl_json(["get", "events", "--namespace", "shop"])?;
        let events = events["items"].as_array().context("events")?.iter();
        let mut ours = events.filter(|event| event["reportingComponent"] == CONTROLLER);
        ensure!(ours.any(|event| event["involvedObject"]["name"] == "web"));
        Ok(Some(()))
    })
}

/// The Lease of the agent's name is the only one that it may read or change.
fn one_lease_alone(cluster: &Cluster) -> Result<()> {
    let agent = format!("--as=system:serviceaccount:{NAMESPACE}:{NAMESPACE}");
    for verb in ["get", "update"] {
        let may = |lease: &str| {
            let lease = format!("lease/{lease}");
            let can = [
                "auth",
                "can-i",
                verb,
                &lease,
                &agent,
                "--namespace",
                NAMESPACE,
            ];
            cluster.kubectl(can).is_ok()
        };
        ensure!(may(NAMESPACE), "{verb} of its own Lease");
        ensure!(!may("another"), "{verb} of another Lease");
    }
    Ok(())
}

/// With a `complete` configuration the agent is ready and has the Service in force; else it says
/// that it has not read everything.
fn await_effect(cluster: &Cluster, complete: bool) -> Result<()> {
    until_some_within(PATIENCE, "the rest is in effect, or nothing", || {
        let status = cluster.agent_status(1)?;
        let reasons = &status["overview"]["not_ready"];
        let services = status["services"].as_array().context("services")?;
        let served = services
            .iter()
            .any(|service| service["namespace"] == "shop" && service["name"] == "web");
        let waits = reasons.to_string().contains("has not been read yet");
        ensure!(
            (reasons == &json!([]), served, waits) == (complete, complete, !complete),
            "not ready: {reasons}, Service web in force: {served}"
        );
        Ok(Some(()))
    })
}

fn delete(cluster: &Cluster, what: &str) -> Result<()> {
    let delete = ["delete", what, "--all", "--namespace", NAMESPACE];
    cluster.kubectl(delete).map(drop)
}

fn await_log(cluster: &Cluster, words: &str) -> Result<()> {
    until_some_within(PATIENCE, "the log says so", || {
        let logs = ["logs", "--namespace", NAMESPACE, "daemonset/proxy-agent"];
        let log = cluster.kubectl(logs)?;
        ensure!(log.contains(words), "its log: {log}");
        Ok(Some(()))
    })
}

/// Waits until the kinds that `forbidden` names are forbidden and all others are read.
fn await_forbidden(cluster: &Cluster, forbidden: impl Fn(&Kind<'_>) -> bool) -> Result<()> {
    until_some_within(PATIENCE, "exactly these kinds are forbidden", || {
        let status = cluster.agent_status(1)?;
        let mut seen = 0;
        for (text, state, detail) in kinds(&status) {
            // Pods of other nodes are read only if an object selects them.
            if detail == "no object selects them" {
                continue;
            }
            let wanted = match forbidden(&Kind::parse(text)) {
                true => "forbidden",
                false => "synced",
            };
            ensure!(state == wanted, "{text} is {state}: {detail}");
            seen += 1;
        }
        ensure!(seen >= 8, "only {seen} kinds in the status");
        Ok(Some(()))
    })
}
