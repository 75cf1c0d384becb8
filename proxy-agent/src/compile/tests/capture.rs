//! Which pods are captured.

use super::{compile, only_problem, problems, set};
use crate::compile::{Acceleration, Compiler, Options};
use crate::model::{Accelerates, CaptureDecision, NotCaptured, Snapshot};
use crate::objects::Origin;

const CAPTURED: CaptureDecision = CaptureDecision::Capture {
    fail_closed: false,
    avoid_sidecar_ports: false,
    accelerates: Accelerates::Nothing,
};

fn text(namespace: &str, metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns{namespace}}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: ns, uid: u{metadata}}}\n\
         spec: {{containers: [{{name: c}}]{spec}}}\nstatus: {{phase: Running}}\n"
    )
}

fn decision(snapshot: &Snapshot) -> CaptureDecision {
    snapshot.pods["u"].capture
}

const ON: &str = ", annotations: {proxy-agent.io/capture: enabled}";
const OFF: &str = ", annotations: {proxy-agent.io/capture: disabled}";
const NS_ON: &str = ", labels: {proxy-agent.io/capture: enabled}";
const NS_OFF: &str = ", labels: {proxy-agent.io/capture: disabled}";

#[test]
fn the_pods_own_word_counts_before_its_namespaces() {
    use NotCaptured::{Disabled, NotEnabled};
    for (namespace, pod, expected) in [
        ("", "", CaptureDecision::LeaveAlone(NotEnabled)),
        (NS_ON, "", CAPTURED),
        (NS_ON, OFF, CaptureDecision::LeaveAlone(Disabled)),
        (NS_OFF, ON, CAPTURED),
        (NS_OFF, "", CaptureDecision::LeaveAlone(Disabled)),
        ("", ON, CAPTURED),
    ] {
        let snapshot = compile(&text(namespace, pod, ""));
        assert_eq!(decision(&snapshot), expected, "{namespace} {pod}");
        assert_eq!(problems(&snapshot), Vec::<String>::new());
    }
}

#[test]
fn a_static_pod_goes_by_the_hash_that_its_cgroup_is_named_after() {
    let hash = "0f6ff4a4c5d1ad9d51a1bb1f2fb0e7f1";
    let mirrored = format!(", annotations: {{kubernetes.io/config.mirror: {hash}}}");
    let snapshot = compile(&text("", &mirrored, ""));
    let uids: Vec<_> = snapshot.pods.keys().map(|uid| &**uid).collect();
    assert_eq!(uids, [hash]);
    let snapshot = compile(&text("", "", ""));
    assert!(!snapshot.pods.contains_key(hash));
}

#[test]
fn some_pods_are_left_alone_whoever_asks() {
    let completed = text(NS_ON, ON, "").replace("Running", "Succeeded");
    for (text, expected) in [
        (
            text(NS_ON, ON, ", hostNetwork: true"),
            NotCaptured::HostNetwork,
        ),
        (completed, NotCaptured::Completed),
        (
            text(NS_ON, ", annotations: {sidecar.istio.io/status: '{}'}", ""),
            NotCaptured::Sidecar,
        ),
        (
            text(NS_ON, "", "").replace("name: c", "name: linkerd-proxy"),
            NotCaptured::Sidecar,
        ),
        (
            text(NS_ON, "", ", initContainers: [{name: istio-proxy}]"),
            NotCaptured::Sidecar,
        ),
    ] {
        assert_eq!(
            decision(&compile(&text)),
            CaptureDecision::LeaveAlone(expected)
        );
    }
}

#[test]
fn a_pod_with_a_sidecar_that_asks_for_it_is_captured_beside_it() {
    let snapshot = compile(&text("", ON, ", initContainers: [{name: istio-proxy}]"));
    let expected = CaptureDecision::Capture {
        fail_closed: false,
        avoid_sidecar_ports: true,
        accelerates: Accelerates::Nothing,
    };
    assert_eq!(decision(&snapshot), expected);
}

#[test]
fn on_failure_is_the_pods_or_the_namespaces() {
    let closed = |snapshot: &Snapshot| match decision(snapshot) {
        CaptureDecision::Capture { fail_closed, .. } => fail_closed,
        CaptureDecision::LeaveAlone(_) => panic!("captured"),
    };
    let namespace = format!("{NS_ON}, annotations: {{proxy-agent.io/on-failure: closed}}");
    assert!(closed(&compile(&text(&namespace, "", ""))));
    let open = ", annotations: {proxy-agent.io/on-failure: open}";
    assert!(!closed(&compile(&text(&namespace, open, ""))));
    assert!(closed(&compile(&text(
        NS_ON,
        &open.replace("open", "closed"),
        ""
    ))));
}

#[test]
fn acceleration_is_what_the_pod_or_its_namespace_asks_for_within_what_the_agent_allows() {
    let asked = |of: Option<&str>| {
        of.map_or(String::new(), |value| {
            format!(", annotations: {{proxy-agent.io/acceleration: {value}}}")
        })
    };
    let accelerates = |acceleration, namespace, pod| {
        let options = Options {
            acceleration,
            ..Options::default()
        };
        let namespace = format!("{NS_ON}{}", asked(namespace));
        let text = text(&namespace, &asked(pod), "");
        let snapshot = Compiler::default().compile(&[set(&text, Origin::Files)], &options);
        match decision(&snapshot) {
            CaptureDecision::Capture { accelerates, .. } => accelerates,
            CaptureDecision::LeaveAlone(_) => panic!("captured"),
        }
    };
    use Accelerates::{DirectToo, Nothing, Proxied};
    let (on, off, direct) = (Some("enabled"), Some("disabled"), Some("direct"));
    for (namespace, pod, opt_in, forced) in [
        (None, None, Nothing, Proxied),
        (None, on, Proxied, Proxied),
        (on, None, Proxied, Proxied),
        (on, off, Nothing, Nothing),
        (off, None, Nothing, Nothing),
        (off, on, Proxied, Proxied),
        (direct, None, DirectToo, DirectToo),
        (direct, on, Proxied, Proxied),
        (on, direct, DirectToo, DirectToo),
        (direct, off, Nothing, Nothing),
    ] {
        assert_eq!(accelerates(Acceleration::Off, namespace, pod), Nothing);
        assert_eq!(accelerates(Acceleration::OptIn, namespace, pod), opt_in);
        assert_eq!(accelerates(Acceleration::On, namespace, pod), forced);
    }
}

#[test]
fn capture_all_leaves_out_the_system_and_the_agents_own() {
    let all = Options {
        capture_all: true,
        agent_namespace: Some("agent".to_owned()),
        node_name: Some("here".to_owned()),
        ..Options::default()
    };
    let decide = |text: &str| {
        let snapshot = Compiler::default().compile(&[set(text, Origin::Files)], &all);
        snapshot.pods.get("u").map(|pod| pod.capture)
    };
    let plain = text("", "", "");
    let system = CaptureDecision::LeaveAlone(NotCaptured::SystemNamespace);
    assert_eq!(decide(&plain), Some(CAPTURED));
    assert_eq!(decide(&plain.replace("ns", "kube-system")), Some(system));
    assert_eq!(decide(&plain.replace("ns", "agent")), Some(system));
    assert_eq!(
        decide(&text("", ON, "").replace("namespace: ns", "namespace: agent")),
        Some(CAPTURED)
    );
    assert_eq!(decide(&text("", "", ", nodeName: here")), Some(CAPTURED));
    assert_eq!(
        decide(&text("", "", ", nodeName: there")),
        None,
        "another node's"
    );
}

#[test]
fn bad_values_and_a_missing_uid_are_named() {
    for (text, expected) in [
        (
            text("", &ON.replace("enabled", "yes"), "").replace("yes", "'yes'"),
            "Pod ns/p: metadata.annotations[proxy-agent.io/capture]: found `yes`, \
             accepted: enabled, disabled",
        ),
        (
            text(&NS_ON.replace("enabled", "on"), "", ""),
            "Namespace ns: metadata.labels[proxy-agent.io/capture]: found `on`, \
             accepted: enabled, disabled",
        ),
        (
            text("", ON, "").replace(", uid: u", ""),
            "Pod ns/p: metadata.uid: no uid: the pod's cgroup cannot be told, so it is not captured",
        ),
    ] {
        assert_eq!(only_problem(&compile(&text)), expected);
    }
}

#[test]
fn a_switch_that_changes_nothing_where_it_stands_is_named() {
    for (text, expected) in [
        (
            text(NS_ON, &NS_ON.replace("enabled", "disabled"), ""),
            "Pod ns/p: metadata.labels[proxy-agent.io/capture]: has no effect on a Pod; accepted: \
             proxy-agent.io/capture in annotations, proxy-agent.io/on-failure in annotations, \
             proxy-agent.io/acceleration in annotations",
        ),
        (
            text(&ON.replace("capture", "captur"), "", ""),
            "Namespace ns: metadata.annotations[proxy-agent.io/captur]: has no effect on a \
             Namespace; accepted: proxy-agent.io/capture in labels, proxy-agent.io/on-failure in \
             annotations, proxy-agent.io/acceleration in annotations",
        ),
        (
            text(
                NS_ON,
                ", annotations: {proxy-agent.io/acceleration: 'on'}",
                "",
            ),
            "Pod ns/p: metadata.annotations[proxy-agent.io/acceleration]: found `on`, accepted: \
             enabled, direct, disabled",
        ),
    ] {
        assert_eq!(only_problem(&compile(&text)), expected);
    }
}
