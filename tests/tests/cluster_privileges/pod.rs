//! The pod: its capabilities, its user, the node's namespaces and paths that it gets, and the seccomp
//! profile.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use proxy_e2e::cluster::Cluster;
use proxy_e2e::until_some_within;
use serde_json::{Value, json};

use super::{NAMESPACE, PATIENCE, daemonset, replace};

/// What a DaemonSet that is granted less comes to.
enum Outcome {
    /// The pod is captured, and nothing is missing.
    Captured,
    /// The pod is captured, and `check` fails: something is missing for the rest.
    Gap,
    /// The agent runs, and gives this reason for the pod.
    NotCaptured(&'static str),
    /// It ends with this in its log.
    Refuses(&'static str),
}

/// What is changed of the DaemonSet, and what comes of it.
type Case = (&'static str, fn(&mut Value), Outcome);

const CASES: &[Case] = &[
    ("as the chart has it", |_| {}, Outcome::Captured),
    (
        "without SYS_ADMIN",
        |pod| drop_capability(pod, "SYS_ADMIN"),
        Outcome::Refuses("the eBPF programs cannot be used"),
    ),
    (
        "without SYS_PTRACE",
        |pod| drop_capability(pod, "SYS_PTRACE"),
        Outcome::NotCaptured("netns-unreadable"),
    ),
    (
        "without NET_ADMIN",
        |pod| drop_capability(pod, "NET_ADMIN"),
        Outcome::Gap,
    ),
    (
        // setns(2) and finding a program by its id have no narrower name.
        "with BPF, PERFMON and NET_ADMIN in place of SYS_ADMIN",
        |pod| {
            let narrower = json!(["BPF", "PERFMON", "NET_ADMIN", "SYS_PTRACE"]);
            container(pod)["securityContext"]["capabilities"]["add"] = narrower;
        },
        Outcome::Refuses("the eBPF programs cannot be used"),
    ),
    (
        "as another user than root",
        |pod| container(pod)["securityContext"]["runAsUser"] = json!(1000),
        Outcome::Refuses("the eBPF programs cannot be used"),
    ),
    (
        "without the node's PID namespace",
        |pod| pod["hostPID"] = json!(false),
        Outcome::NotCaptured("hidden"),
    ),
    (
        "without the node's cgroup tree",
        |pod| {
            remove(&mut container(pod)["volumeMounts"], |mount| {
                mount["name"] == "cgroup"
            });
        },
        Outcome::Refuses("no cgroup2 mount"),
    ),
    (
        "without a folder on the node for its sockets",
        |pod| {
            remove(&mut container(pod)["volumeMounts"], |mount| {
                mount["name"] == "run"
            });
        },
        Outcome::Refuses("agent.sock"),
    ),
];

pub(crate) fn container(pod: &mut Value) -> &mut Value {
    &mut pod["containers"][0]
}

pub(crate) fn drop_capability(pod: &mut Value, name: &str) {
    let added = &mut container(pod)["securityContext"]["capabilities"]["add"];
    remove(added, |capability| capability == name);
}

/// Removes one item, which must be there.
fn remove(list: &mut Value, is_it: impl Fn(&Value) -> bool) {
    let items = list.as_array_mut().into_iter().flatten();
    let (kept, removed): (Vec<_>, Vec<_>) = items.map(Value::take).partition(|item| !is_it(item));
    assert_eq!(removed.len(), 1, "of {kept:?}");
    *list = Value::Array(kept);
}

/// Takes each one away, and in the end gives all of them back.
pub(crate) fn each_privilege(cluster: &Cluster) -> Result<()> {
    let granted = daemonset(cluster)?;
    for (name, change, outcome) in CASES {
        let begun = Instant::now();
        let mut changed = granted.clone();
        change(&mut changed["spec"]["template"]["spec"]);
        replace(cluster, &changed)?;
        await_outcome(cluster, outcome).with_context(|| (*name).to_owned())?;
        println!("{name}: as expected ({:.0?})", begun.elapsed());
    }
    replace(cluster, &granted)
}

/// The project's own profile allows what the agent calls, handovers among it, and is in force:
/// without bpf(2) in it nothing goes.
pub(crate) fn the_seccomp_profile(cluster: &Cluster, folder: &Path) -> Result<()> {
    let granted = daemonset(cluster)?;
    let profile = include_str!("../../../deploy/seccomp/proxy-agent.json");
    let profiles = folder.join("node1/kubelet/seccomp");
    std::fs::create_dir_all(&profiles)?;
    for (text, outcome) in [
        (profile.to_owned(), Outcome::Captured),
        (
            profile.replace("\"bpf\", ", ""),
            Outcome::Refuses("the eBPF programs cannot be used"),
        ),
    ] {
        std::fs::write(profiles.join("proxy-agent.json"), text)?;
        let mut changed = granted.clone();
        let security = &mut container(&mut changed["spec"]["template"]["spec"])["securityContext"];
        security["seccompProfile"] =
            json!({"type": "Localhost", "localhostProfile": "proxy-agent.json"});
        replace(cluster, &changed)?;
        await_outcome(cluster, &outcome).context("with the project's seccomp profile")?;
        if matches!(outcome, Outcome::Captured) {
            handover(cluster).context("a rollout under the project's seccomp profile")?;
        }
    }
    replace(cluster, &granted)
}

/// A rollout has the next agent take the node over, and capture the pod.
fn handover(cluster: &Cluster) -> Result<()> {
    // An agent that is not ready yet would be deleted at once: nothing to take over from.
    cluster.wait_agents()?;
    let before = cluster.agent_pod(1)?;
    let set = format!("daemonset/{NAMESPACE}");
    cluster.kubectl(["rollout", "restart", &set, "--namespace", NAMESPACE])?;
    cluster.wait_agents()?;
    let after = cluster.agent_pod(1)?;
    ensure!(before != after, "{before} is still there");
    let log = cluster.kubectl(["logs", "--namespace", NAMESPACE, &after])?;
    ensure!(log.contains("took the node over"), "no handover: {log}");
    await_outcome(cluster, &Outcome::Captured)
}

fn await_outcome(cluster: &Cluster, outcome: &Outcome) -> Result<()> {
    until_some_within(PATIENCE, "the agent does what is expected", || {
        if let Outcome::Refuses(words) = outcome {
            let logs = ["logs", "--namespace", NAMESPACE, "daemonset/proxy-agent"];
            let log = cluster.kubectl(logs)?;
            ensure!(log.contains(words), "its log: {log}");
            return Ok(Some(()));
        }
        let web = cluster.agent_view(1, "shop/web")?;
        let reason = web["reason"].as_str().unwrap_or_default();
        match outcome {
            Outcome::Captured | Outcome::Gap => {
                ensure!(web["captured"] == true, "not captured: {reason}");
            }
            Outcome::NotCaptured(word) => {
                ensure!(
                    web["captured"] == false && reason.starts_with(word),
                    "{web}"
                );
            }
            Outcome::Refuses(_) => bail!("has no status"),
        }
        if matches!(outcome, Outcome::Gap) {
            let checked = cluster.agent_verb(1, &["check"]);
            ensure!(checked.is_err(), "`check` finds nothing missing");
            return Ok(Some(()));
        }
        let gaps = matches!(outcome, Outcome::Captured).then(|| cluster.agent_verb(1, &["check"]));
        gaps.transpose().map(|_passed| Some(()))
    })
}
