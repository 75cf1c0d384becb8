//! What the DaemonSet is granted is what it needs: each grant is taken away, and what fails then
//! is what the chart gives as its reason. On a real cluster: `cargo xtask privileges`.

#![expect(clippy::print_stdout, reason = "minutes pass: it says how far it is")]

mod pod;
mod role;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use proxy_e2e::cluster::Cluster;
use serde_json::{Value, json};

/// A container starts and is looked at by kubectl exec; the cluster has a core or two.
const PATIENCE: Duration = Duration::from_secs(120);
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
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
"#;

#[test]
#[ignore = "needs a cluster and the agent's image: cargo xtask privileges"]
fn each_grant_of_the_chart_is_needed_and_nothing_else_is() {
    let name = format!("proxy-agent-test-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let cluster = Cluster::up(&folder, 1).unwrap();
    let image = std::env::var_os("PROXY_AGENT_IMAGE");
    let image = image.expect("PROXY_AGENT_IMAGE is not set: run `cargo xtask privileges`");
    cluster.load(Path::new(&image)).unwrap();
    cluster.apply(SHOP).unwrap();
    cluster.install(&[]).unwrap();
    pod::each_privilege(&cluster).unwrap();
    pod::the_seccomp_profile(&cluster, &folder).unwrap();
    role::each_rule(&cluster).unwrap();
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
