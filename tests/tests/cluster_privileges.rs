//! What the DaemonSet is granted is what it needs: each grant is taken away, and what fails then
//! is what the chart gives as its reason. On a real cluster: `cargo xtask privileges`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use proxy_e2e::cluster::Cluster;
use proxy_e2e::until_some_within;
use serde_json::{Value, json};

/// A container starts and is looked at by kubectl exec; the cluster has a core or two.
const PATIENCE: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "proxy-agent";

const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {proxy-agent.io/capture: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  terminationGracePeriodSeconds: 0
  # Nobody the agent is: another user, without rights.
  securityContext: {runAsUser: 1000, runAsNonRoot: true}
  containers:
    - name: web
      image: local/busybox:1
      imagePullPolicy: Never
      command: [/bin/busybox, sleep, infinity]
"#;

/// What a DaemonSet that is granted less comes to.
enum Outcome {
    /// The pod is captured, and nothing is missing.
    Captured,
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
];

fn container(pod: &mut Value) -> &mut Value {
    &mut pod["containers"][0]
}

fn drop_capability(pod: &mut Value, name: &str) {
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

#[test]
#[ignore = "needs a cluster and the agent's image: cargo xtask privileges"]
fn each_grant_of_the_chart_is_needed_and_nothing_else_is() {
    let folder = std::env::temp_dir().join("proxy-agent-privileges");
    let cluster = Cluster::up(&folder, 1).unwrap();
    install(&cluster).unwrap();
    each_privilege_of_the_pod(&cluster).unwrap();
    the_seccomp_profile(&cluster, &folder).unwrap();
    each_rule_of_the_role(&cluster).unwrap();
}

fn install(cluster: &Cluster) -> Result<()> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    cluster.load(&project.join("target/proxy-agent.tar"))?;
    cluster.apply(SHOP)?;
    let chart = project.join("deploy/helm/proxy-agent");
    let chart = chart.to_str().context("a path in UTF-8")?;
    let install = ["install", NAMESPACE, chart, "--create-namespace", "--wait"];
    let image = "image.repository=local/proxy-agent,image.tag=dev,image.pullPolicy=Never";
    let rest = ["--namespace", NAMESPACE, "--set", image, "--timeout", "60s"];
    cluster.helm(install.iter().chain(&rest)).map(drop)
}

fn each_privilege_of_the_pod(cluster: &Cluster) -> Result<()> {
    let granted = daemonset(cluster)?;
    for (name, change, outcome) in CASES {
        let mut changed = granted.clone();
        change(&mut changed["spec"]["template"]["spec"]);
        replace(cluster, &changed)?;
        await_outcome(cluster, outcome).with_context(|| (*name).to_owned())?;
    }
    replace(cluster, &granted)
}

/// The project's own profile allows what the agent calls, and is in force: without bpf(2) in it
/// nothing goes.
fn the_seccomp_profile(cluster: &Cluster, folder: &Path) -> Result<()> {
    let granted = daemonset(cluster)?;
    let profile = include_str!("../../deploy/seccomp/proxy-agent.json");
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
    }
    replace(cluster, &granted)
}

/// Takes each resource out of the ClusterRole, and each verb: the agent calls exactly the kinds
/// forbidden that it can no longer read.
fn each_rule_of_the_role(cluster: &Cluster) -> Result<()> {
    serve_every_kind(cluster)?;
    let granted = cluster.kubectl_json(["get", "clusterrole", NAMESPACE])?;
    await_forbidden(cluster, |_| false).context("as the chart has it")?;
    let rules = granted["rules"].as_array().context("rules")?;
    for (number, rule) in rules.iter().enumerate() {
        ensure!(
            rule["verbs"] == json!(["list", "watch"]),
            "no proof for {rule}"
        );
        let group = rule["apiGroups"][0].as_str().unwrap_or_default();
        for plural in rule["resources"].as_array().into_iter().flatten() {
            let mut less = granted.clone();
            let resources = less["rules"][number]["resources"].as_array_mut();
            resources
                .context("resources")?
                .retain(|other| other != plural);
            let plural = plural.as_str().unwrap_or_default();
            set_role(cluster, &less)?;
            await_forbidden(cluster, |kind| kind.is(group, plural))
                .with_context(|| format!("without {plural}.{group}"))?;
        }
    }
    for verb in ["list", "watch"] {
        let mut less = granted.clone();
        for rule in less["rules"].as_array_mut().into_iter().flatten() {
            let verbs = rule["verbs"].as_array_mut().context("verbs")?;
            verbs.retain(|other| other != verb);
        }
        set_role(cluster, &less)?;
        await_forbidden(cluster, |_| true).with_context(|| format!("without {verb}"))?;
    }
    Ok(())
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
        format!("{}s", self.name.to_lowercase())
    }

    fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural() == plural
    }
}

/// Kinds that are not installed are not asked for, so nothing could be forbidden about them.
fn serve_every_kind(cluster: &Cluster) -> Result<()> {
    let seen = until_some_within(PATIENCE, "the agent has read what there is", || {
        let status = status(cluster)?;
        let ready = status["overview"]["not_ready"] == json!([]);
        Ok(ready.then_some(status))
    })?;
    for (text, state, detail) in kinds(&seen) {
        if state != "absent" || !detail.starts_with("not served in ") {
            continue;
        }
        let kind = Kind::parse(text);
        let version = detail.trim_start_matches("not served in ");
        let version = version.split(',').next().unwrap_or(version);
        let (plural, group) = (kind.plural(), kind.group);
        let names = json!({"kind": kind.name, "plural": plural});
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{group}"),
                "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
            },
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [{
                "name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
            }]},
        });
        cluster.apply(&definition.to_string())?;
    }
    Ok(())
}

/// Kind, state and detail of what the source follows.
fn kinds(status: &Value) -> impl Iterator<Item = (&str, &str, &str)> {
    let kinds = status["overview"]["sources"][0]["kinds"].as_array();
    kinds.into_iter().flatten().filter_map(|kind| {
        let text = |field: &str| kind[field].as_str();
        Some((text("kind")?, text("state")?, text("detail")?))
    })
}

fn set_role(cluster: &Cluster, role: &Value) -> Result<()> {
    cluster.apply(&bare(role).to_string())?;
    let delete = ["delete", "pods", "--all", "--namespace", NAMESPACE];
    cluster.kubectl(delete).map(drop)
}

/// Waits until the kinds that `forbidden` names are forbidden and all others are read.
fn await_forbidden(cluster: &Cluster, forbidden: impl Fn(&Kind<'_>) -> bool) -> Result<()> {
    until_some_within(PATIENCE, "exactly these kinds are forbidden", || {
        let status = status(cluster)?;
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

fn daemonset(cluster: &Cluster) -> Result<Value> {
    let set = ["get", "daemonset", NAMESPACE, "--namespace", NAMESPACE];
    cluster.kubectl_json(set).map(|set| bare(&set))
}

/// What the API server added to an object would keep it from being applied again.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = &object["metadata"];
    object["metadata"] = json!({"name": metadata["name"], "namespace": metadata["namespace"]});
    object["status"] = Value::Null;
    object
}

/// Puts another DaemonSet in the place of the one that there is, whose agent is gone then: it
/// would go on serving beside one that cannot.
fn replace(cluster: &Cluster, set: &Value) -> Result<()> {
    let delete = ["delete", "daemonset", NAMESPACE, "--cascade=foreground"];
    cluster.kubectl(delete.iter().chain(&["--namespace", NAMESPACE]))?;
    cluster.apply(&set.to_string())
}

fn await_outcome(cluster: &Cluster, outcome: &Outcome) -> Result<()> {
    until_some_within(PATIENCE, "the agent does what is expected", || {
        if let Outcome::Refuses(words) = outcome {
            let logs = ["logs", "--namespace", NAMESPACE, "daemonset/proxy-agent"];
            let log = cluster.kubectl(logs)?;
            ensure!(log.contains(words), "its log: {log}");
            return Ok(Some(()));
        }
        let status = status(cluster)?;
        let pods = status["pods"].as_array().context("pods")?;
        let web = pods.iter().find(|pod| pod["name"] == "web");
        let web = web.context("shop/web is not seen")?;
        let reason = web["reason"].as_str().unwrap_or_default();
        match outcome {
            Outcome::Captured => ensure!(web["captured"] == true, "not captured: {reason}"),
            Outcome::NotCaptured(word) => {
                ensure!(
                    web["captured"] == false && reason.starts_with(word),
                    "{web}"
                );
            }
            Outcome::Refuses(_) => bail!("has no status"),
        }
        let gaps = matches!(outcome, Outcome::Captured).then(|| agent(cluster, &["check"]));
        gaps.transpose().map(|_passed| Some(()))
    })
}

fn status(cluster: &Cluster) -> Result<Value> {
    let text = agent(cluster, &["status", "-o", "json"])?;
    serde_json::from_str(&text).context("status prints JSON")
}

fn agent(cluster: &Cluster, words: &[&str]) -> Result<String> {
    let exec = ["exec", "--namespace", NAMESPACE, "daemonset/proxy-agent"];
    let exec = exec.iter().chain(&["--", "proxy-agent"]);
    cluster.kubectl(exec.chain(words))
}
