//! Pods of every kind that a kubelet runs: static ones, finished ones, those on the node's own
//! network, and those whose sandbox dies.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxy_e2e::is_of_pod;

use crate::answers;
use crate::scene::{MANY, Scene};

/// The pods of these tests are on this node.
const NODE: u8 = 2;

/// A pod that answers and can be asked from, in the captured namespace.
fn pod(name: &str, spec: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: mesh}}
spec:
  terminationGracePeriodSeconds: 0
  {spec}
"
    )
}

/// `nodeName` instead of a selector: where the scheduler has no say, as with static pods.
const SERVES: &str = "containers: [{name: main, image: 'local/echo:1', imagePullPolicy: Never, \
                      args: [--port=8099]}]\n  nodeName: node2";

const ENDS: &str = "containers: [{name: main, image: 'local/busybox:1', imagePullPolicy: Never, \
                    args: [sleep, '5']}]\n  nodeName: node2\n  restartPolicy: Never";

/// Requires that requests of one connection from this pod meet both endpoints.
fn ensure_balanced(scene: &Scene, pod: &str) -> Result<()> {
    let answers = scene.ask(&format!("mesh/{pod}"), "http://echo.mesh/", MANY)?;
    let pods = answers::pods(&answers);
    ensure!(pods.len() == 2, "{pod} was answered by {pods:?} alone");
    Ok(())
}

/// What all other tests of two nodes then show of both.
pub(crate) fn pods_are_found_whoever_makes_their_cgroups(scene: &Scene) -> Result<()> {
    for (node, name) in [(1, "kubepods"), (2, "kubepods.slice")] {
        let root = scene.cluster.agent_status(node)?["overview"]["cgroup_root"].clone();
        let found = root.as_str().and_then(|root| root.rsplit('/').next());
        ensure!(found == Some(name), "on node{node} pods are below {root}");
    }
    scene.wait_captured()
}

pub(crate) fn a_static_pod_is_captured(scene: &Scene) -> Result<()> {
    // The API server's UID of such a pod is not the one of its cgroup.
    let manifest = pod("static", SERVES);
    scene.cluster.place_static_pod(NODE, "static", &manifest)?;
    let tried = scene.until("the static pod is captured", || {
        scene.cluster.ensure_captured(NODE, "mesh/static-node2")?;
        ensure_balanced(scene, "static-node2")
    });
    scene.cluster.remove_static_pod(NODE, "static")?;
    tried?;
    scene.until("the agent has forgotten it", || {
        let view = scene.cluster.agent_view(NODE, "mesh/static-node2");
        ensure!(view.is_err(), "status shows {view:?}");
        Ok(())
    })
}

pub(crate) fn a_pod_is_captured_again_after_its_sandbox_died(scene: &Scene) -> Result<()> {
    let pod = Temporary::apply(scene, "reborn", &pod("reborn", SERVES))?;
    scene.until("the pod is captured", || ensure_balanced(scene, "reborn"))?;
    let uid = pod.uid()?;
    let sandbox = sandbox(&uid)?;

    kill(Pid::from_raw(sandbox), Signal::SIGKILL).context("kill the sandbox")?;

    // Its network namespace may have the number of the former one.
    scene.until("kubelet has made another one", || {
        let now = self::sandbox(&uid)?;
        ensure!(now != sandbox, "it is still process {now}");
        Ok(())
    })?;
    scene.until("the pod is captured again", || {
        scene.cluster.ensure_captured(NODE, "mesh/reborn")?;
        ensure_balanced(scene, "reborn")
    })?;
    assert_eq!(pod.uid()?, uid, "it is the same pod");
    Ok(())
}

pub(crate) fn a_finished_pod_is_released(scene: &Scene) -> Result<()> {
    let pod = Temporary::apply(scene, "once", &pod("once", ENDS))?;
    let uid = pod.uid()?;
    scene.until("the pod is captured while it runs", || {
        scene.cluster.ensure_captured(NODE, "mesh/once")
    })?;
    scene.until("the pod has finished", || {
        let pod = scene
            .cluster
            .kubectl_json(["get", "pod", "-n", "mesh", "once"])?;
        ensure!(pod["status"]["phase"] == "Succeeded", "{}", pod["status"]);
        Ok(())
    })?;

    // The object is there, its sandbox is not; nor does the agent hold the network namespace.
    scene.until("the pod is released", || {
        let view = scene.cluster.agent_view(NODE, "mesh/once")?;
        ensure!(view["captured"] == false, "status shows {view}");
        ensure!(view["reason"] == "completed", "status shows {view}");
        ensure!(sandbox(&uid).is_err(), "the sandbox is still there");
        Ok(())
    })
}

pub(crate) fn a_pod_on_the_nodes_network_is_left_alone(scene: &Scene) -> Result<()> {
    let on_node = format!("{SERVES}\n  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet");
    let _pod = Temporary::apply(scene, "on-node", &pod("on-node", &on_node))?;
    scene.until("the pod answers", || {
        scene.ensure_ordinary("mesh/on-node", "http://echo.mesh/")
    })?;
    let view = scene.cluster.agent_view(NODE, "mesh/on-node")?;
    assert_eq!(view["captured"], false, "{view}");
    assert_eq!(view["reason"], "host-network", "{view}");
    // Pods beside it are captured as before.
    scene.ensure_balanced(NODE)
}

/// A pod of one test; deleted on drop.
struct Temporary<'a> {
    scene: &'a Scene,
    name: &'static str,
}

impl<'a> Temporary<'a> {
    fn apply(scene: &'a Scene, name: &'static str, manifest: &str) -> Result<Self> {
        scene.cluster.apply(manifest)?;
        Ok(Self { scene, name })
    }

    fn uid(&self) -> Result<String> {
        let get = ["get", "pod", "-n", "mesh", self.name];
        let pod = self.scene.cluster.kubectl_json(get)?;
        let uid = pod["metadata"]["uid"].as_str();
        uid.map(str::to_owned).context("it has no UID")
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        let delete = ["delete", "pod", "-n", "mesh", self.name];
        if let Err(error) = self.scene.cluster.kubectl(delete) {
            eprintln!("pod {} is not deleted: {error:#}", self.name);
        }
    }
}

/// The process that holds a pod's namespaces: the rig's image for it is busybox, which no container of
/// these pods runs.
fn sandbox(uid: &str) -> Result<i32> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let place = entry.path();
        // Processes end while they are looked at.
        let read = |name: &str| fs::read_to_string(place.join(name)).unwrap_or_default();
        // One that has ended and is only not waited for yet has none.
        let has_namespaces = || fs::read_link(place.join("ns/net")).is_ok();
        if read("comm").trim() == "busybox" && is_of_pod(&read("cgroup"), uid) && has_namespaces() {
            let pid = entry.file_name();
            let pid = pid.to_str().and_then(|pid| pid.parse().ok());
            return pid.context("a process id");
        }
    }
    anyhow::bail!("pod {uid} has no sandbox")
}
