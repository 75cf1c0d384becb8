//! `kubectl proxy-agent`: the script finds the agent of a pod's node, and says what is wrong.

use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Deserializer, Value};

use crate::scene::Scene;

pub(crate) fn the_plugin_asks_the_agent_of_the_pods_node(scene: &Scene) -> Result<()> {
    let all = answer(scene, &["status"])?;
    for node in ["== node1 (", "== node2 ("] {
        ensure!(all.contains(node), "status of all nodes is {all}");
    }
    let json = answer(scene, &["status", "-o", "json"])?;
    let nodes: Vec<Value> = Deserializer::from_str(&json)
        .into_iter()
        .collect::<Result<_, _>>()
        .context("one document for each node")?;
    ensure!(nodes.len() == 2, "{} documents", nodes.len());
    for node in ["node1", "node2"] {
        let (client, other) = (format!("client-{node}"), format!("echo-{node}"));
        let pod = format!("mesh/{client}");
        let table = answer(scene, &["status", "--pod", &pod])?;
        ensure!(table.lines().count() == 2 && table.contains(&client));
        ensure!(!table.contains(&other), "other pods as well: {table}");
        let request = ["explain", "--pod", &pod, "GET", "http://echo/"];
        let explained = answer(scene, &request)?;
        let from = format!("{pod}: captured");
        ensure!(explained.contains(&from), "explained as {explained}");
        let state = answer(scene, &["status", "--node", node])?;
        ensure!(state.contains(&format!("on {node}: serving")), "{state}");
        answer(scene, &["check", "--pod", &pod])?;
    }
    Ok(())
}

pub(crate) fn the_plugin_says_what_is_wrong_and_ends_with_a_code(scene: &Scene) -> Result<()> {
    let waiting = r#"
apiVersion: v1
kind: Pod
metadata: {name: waiting, namespace: plain}
spec:
  nodeSelector: {kubernetes.io/hostname: nowhere}
  containers: [{name: main, image: "local/echo:1"}]
"#;
    scene.cluster.apply(waiting)?;
    let cases: &[(&[&str], i32, &str)] = &[
        (&["status", "--pod", "mesh/absent"], 1, "not found"),
        (
            &["status", "--pod", "plain/waiting"],
            1,
            "is on no node yet",
        ),
        (
            &["check", "--node", "node9"],
            1,
            "no agent runs on node node9",
        ),
        (&["status", "--namespace", "plain"], 1, "no agent runs in"),
        (&["explain", "GET", "http://echo/"], 2, "needs --pod"),
        (&["status", "--pod", "web"], 2, "not NAMESPACE/POD"),
        (&["status", "--watch"], 2, "--node or --pod"),
        (&["status", "nothing"], 1, "nothing"),
        (&[], 2, "which verb?"),
    ];
    for (words, code, complaint) in cases {
        let ended = run(scene, words)?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            ended.status.code() == Some(*code) && said.contains(complaint),
            "{words:?} ended with {} and {said}",
            ended.status
        );
    }
    let delete = ["delete", "pod", "waiting", "--namespace", "plain"];
    scene.cluster.kubectl(delete).map(drop)
}

fn answer(scene: &Scene, words: &[&str]) -> Result<String> {
    let ended = run(scene, words)?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{words:?} failed: {said}");
    String::from_utf8(ended.stdout).context("UTF-8")
}

/// As it is installed: on the search path, where kubectl finds it.
fn run(scene: &Scene, words: &[&str]) -> Result<Output> {
    let mut kubectl = scene.cluster.client("kubectl");
    let program = kubectl.get_args().last().map(Path::new);
    let kit = program.and_then(Path::parent).context("kubectl's folder")?;
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let path = format!("{}:{}:/usr/bin:/bin", plugin.display(), kit.display());
    kubectl.arg("proxy-agent").args(words).env("PATH", path);
    kubectl.stdin(Stdio::null());
    kubectl.output().context("run kubectl")
}
