//! The cluster that all tests share, and how they ask it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proxy_e2e::cluster::Cluster;
use proxy_e2e::until_some_within;

use crate::answers::{self, Answer};

/// How long a state of a whole cluster may take to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// So many requests on one connection would all meet one endpoint of two by chance in one run of
/// 2^29.
pub(crate) const MANY: u32 = 30;

/// Two nodes, the agent on both, tests/cluster/scene.yaml.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
}

impl Scene {
    /// Brings everything onto the cluster that `cargo xtask e2e --cluster` has started.
    pub(crate) fn set() -> Result<Self> {
        let given = |name: &str| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.with_context(|| format!("{name} is not set: run `cargo xtask e2e --cluster`"))
        };
        let scene = Self {
            cluster: Cluster::attach(&given("PROXY_AGENT_E2E_CLUSTER")?)?,
        };
        scene.cluster.apply_gateway_api("standard")?;
        for image in ["PROXY_AGENT_IMAGE", "PROXY_AGENT_WRK_IMAGE"] {
            scene.cluster.load(&given(image)?)?;
        }
        scene.cluster.install(&[])?;
        scene
            .cluster
            .apply(include_str!("../../cluster/scene.yaml"))?;
        for node in ["node1", "node2"] {
            let pods = include_str!("../../cluster/scene-node.yaml").replace("@NODE@", node);
            scene.cluster.apply(&pods)?;
        }
        for namespace in ["mesh", "plain"] {
            let ready = [
                "wait",
                "pod",
                "--all",
                "--for=condition=Ready",
                "--timeout=60s",
            ];
            scene
                .cluster
                .kubectl(ready.iter().chain(&["-n", namespace]))?;
        }
        scene.wait_captured()?;
        Ok(scene)
    }

    /// Waits until every captured pod of the scene is, and balances.
    pub(crate) fn wait_captured(&self) -> Result<()> {
        for node in 1..=2 {
            self.until(&format!("pods of node{node} are captured"), || {
                for pod in ["client", "echo", "load"] {
                    let pod = format!("mesh/{pod}-node{node}");
                    self.cluster.ensure_captured(node, &pod)?;
                }
                self.ensure_balanced(node)
            })?;
        }
        Ok(())
    }

    /// Sends requests from a pod, `NAMESPACE/NAME`, on one connection.
    pub(crate) fn ask(&self, pod: &str, url: &str, count: u32) -> Result<Vec<Answer>> {
        let (namespace, name) = pod.split_once('/').context("NAMESPACE/NAME")?;
        let count = format!("--count={count}");
        let client = ["client", url, &count];
        let exec = ["exec", "-n", namespace, name, "-c", "main", "--"];
        answers::parse(&self.cluster.kubectl(exec.iter().chain(&client))?)
    }

    /// Requires that the requests of one connection from a node's client meet both endpoints: the
    /// agent's work, kube-proxy chooses once for each connection.
    pub(crate) fn ensure_balanced(&self, node: u8) -> Result<()> {
        let answers = self.ask(&client(node), "http://echo.mesh/", MANY)?;
        let pods = answers::pods(&answers);
        ensure!(pods.len() == 2, "answers came from {pods:?} alone");
        Ok(())
    }

    /// Requires that they all meet one: nobody stands between.
    pub(crate) fn ensure_ordinary(&self, pod: &str, url: &str) -> Result<()> {
        let answers = self.ask(pod, url, MANY)?;
        let pods = answers::pods(&answers);
        ensure!(
            pods.len() == 1 && answers.iter().all(|answer| answer.status == 200),
            "one connection was answered by {pods:?}"
        );
        Ok(())
    }

    /// A pod's address.
    pub(crate) fn address(&self, pod: &str) -> Result<String> {
        let (namespace, name) = pod.split_once('/').context("NAMESPACE/NAME")?;
        let pod = self
            .cluster
            .kubectl_json(["get", "pod", "-n", namespace, name])?;
        let address = pod["status"]["podIP"].as_str();
        address.map(str::to_owned).context("it has no address")
    }

    /// Waits until `look` succeeds.
    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
        until_some_within(PATIENCE, what, || look().map(Some))
    }
}

/// The client of a node, a captured pod.
pub(crate) fn client(node: u8) -> String {
    format!("mesh/client-node{node}")
}
