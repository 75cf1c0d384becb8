//! Pods: who is captured, and why not.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod as KubePod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::index::At;
use super::problems::Problems;
use super::{Acceleration, Options};
use crate::model::{Accelerates, CaptureDecision, NotCaptured, Pod};

/// On pods (annotation) and namespaces (label): `enabled` or `disabled`.
const CAPTURE: &str = "proxy-agent.io/capture";
/// On pods and namespaces (annotation): `open` or `closed`.
const ON_FAILURE: &str = "proxy-agent.io/on-failure";
/// On pods and namespaces (annotation): `enabled`, `direct` or `disabled`.
const ACCELERATION: &str = "proxy-agent.io/acceleration";
/// Annotations that sidecar injectors leave.
const SIDECAR_ANNOTATIONS: [&str; 2] = ["sidecar.istio.io/status", "linkerd.io/proxy-version"];
/// On the API's copy of a static pod: the UID that kubelet and its cgroup know the pod by, which is a
/// hash of its manifest and not `metadata.uid`.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Names of sidecar containers.
const SIDECAR_CONTAINERS: [&str; 2] = ["istio-proxy", "linkerd-proxy"];

/// Compiles a pod that may run on this node and has a uid. Of its namespace only the values
/// count: [`judge_namespace`] names what is wrong with them.
pub(super) fn compile(
    at: &At<'_, KubePod>,
    namespace: Option<&At<'_, Namespace>>,
    options: &Options,
    problems: &mut Problems,
) -> Option<Pod> {
    let spec = at.object.spec.as_ref();
    let node = spec.and_then(|spec| spec.node_name.as_ref());
    if node.is_some() && options.node_name.is_some() && node != options.node_name.as_ref() {
        return None;
    }
    let capture = decide(at, namespace, options, problems);
    let Some(uid) = uid(&at.object.metadata) else {
        if matches!(capture, CaptureDecision::Capture { .. }) {
            let reason = "no uid: the pod's cgroup cannot be told, so it is not captured";
            problems.warning(at.located, "metadata.uid", reason);
        }
        return None;
    };
    Some(Pod {
        uid: uid.into(),
        namespace: Arc::clone(&at.located.id.namespace),
        name: Arc::clone(&at.located.id.name),
        ips: ips(at.object),
        capture,
    })
}

/// Names what is wrong with the switches of a namespace.
pub(super) fn judge_namespace(at: &At<'_, Namespace>, problems: &mut Problems) {
    let labels = &at.object.metadata.labels;
    let _value = switch(at, labels, Field::Label, problems);
    let _value = fail_closed(at, problems);
    let _value = acceleration(at, problems);
}

/// What the pod's cgroup is named after.
fn uid(metadata: &ObjectMeta) -> Option<&str> {
    let annotations = metadata.annotations.as_ref();
    let mirrored = annotations.and_then(|annotations| annotations.get(MIRROR));
    let uid = mirrored.or(metadata.uid.as_ref());
    uid.map(String::as_str).filter(|uid| !uid.is_empty())
}

/// `status.podIPs`, or `status.podIP` alone.
pub(super) fn ips(pod: &KubePod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let mut ips: Vec<IpAddr> = status
        .pod_ip
        .iter()
        .filter_map(|ip| ip.parse().ok())
        .collect();
    for ip in status.pod_ips.iter().flatten() {
        if let Ok(ip) = ip.ip.parse()
            && !ips.contains(&ip)
        {
            ips.push(ip);
        }
    }
    ips
}

/// Whether the pod has run to completion.
pub(super) fn is_completed(pod: &KubePod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn decide(
    at: &At<'_, KubePod>,
    namespace: Option<&At<'_, Namespace>>,
    options: &Options,
    problems: &mut Problems,
) -> CaptureDecision {
    use CaptureDecision::{Capture, LeaveAlone};
    let mut judged_already = Problems::default();
    let own = switch(
        at,
        &at.object.metadata.annotations,
        Field::Annotation,
        problems,
    );
    let inherited = namespace.and_then(|at| {
        switch(
            at,
            &at.object.metadata.labels,
            Field::Label,
            &mut judged_already,
        )
    });
    if at
        .object
        .spec
        .as_ref()
        .is_some_and(|spec| spec.host_network == Some(true))
    {
        return LeaveAlone(NotCaptured::HostNetwork);
    }
    if is_completed(at.object) {
        return LeaveAlone(NotCaptured::Completed);
    }
    let system = &*at.located.id.namespace == "kube-system"
        || options.agent_namespace.as_deref() == Some(&*at.located.id.namespace);
    match own.or(inherited) {
        Some(false) => return LeaveAlone(NotCaptured::Disabled),
        None if !options.capture_all => return LeaveAlone(NotCaptured::NotEnabled),
        None if system => return LeaveAlone(NotCaptured::SystemNamespace),
        Some(true) | None => {}
    }
    let sidecar = has_sidecar(at.object);
    if sidecar && own != Some(true) {
        return LeaveAlone(NotCaptured::Sidecar);
    }
    Capture {
        fail_closed: fail_closed(at, problems)
            .or_else(|| namespace.and_then(|at| fail_closed(at, &mut judged_already)))
            .unwrap_or(false),
        avoid_sidecar_ports: sidecar,
        accelerates: accelerates(at, namespace, options, problems),
    }
}

fn accelerates(
    at: &At<'_, KubePod>,
    namespace: Option<&At<'_, Namespace>>,
    options: &Options,
    problems: &mut Problems,
) -> Accelerates {
    let mut judged_already = Problems::default();
    let asked = acceleration(at, problems)
        .or_else(|| namespace.and_then(|at| acceleration(at, &mut judged_already)));
    match options.acceleration {
        Acceleration::Off => Accelerates::Nothing,
        Acceleration::OptIn => asked.unwrap_or_default(),
        Acceleration::On => asked.unwrap_or(Accelerates::Proxied),
    }
}

#[derive(Clone, Copy)]
enum Field {
    Label,
    Annotation,
}

type Texts = Option<std::collections::BTreeMap<String, String>>;

/// The value of the capture switch; a bad value counts as none, and is named.
fn switch<T>(at: &At<'_, T>, texts: &Texts, field: Field, problems: &mut Problems) -> Option<bool> {
    let field = match field {
        Field::Label => "metadata.labels",
        Field::Annotation => "metadata.annotations",
    };
    match texts.as_ref()?.get(CAPTURE)?.as_str() {
        "enabled" => Some(true),
        "disabled" => Some(false),
        other => {
            let reason = format!("found `{other}`, accepted: enabled, disabled");
            problems.error(at.located, format!("{field}[{CAPTURE}]"), reason);
            None
        }
    }
}

fn acceleration<T>(at: &At<'_, T>, problems: &mut Problems) -> Option<Accelerates> {
    let metadata: Option<&ObjectMeta> = at.located.object.metadata();
    let value = metadata?.annotations.as_ref()?.get(ACCELERATION)?.as_str();
    match value {
        "enabled" => Some(Accelerates::Proxied),
        "direct" => Some(Accelerates::DirectToo),
        "disabled" => Some(Accelerates::Nothing),
        other => {
            let field = format!("metadata.annotations[{ACCELERATION}]");
            let reason = format!("found `{other}`, accepted: enabled, direct, disabled");
            problems.error(at.located, field, reason);
            None
        }
    }
}

fn fail_closed<T>(at: &At<'_, T>, problems: &mut Problems) -> Option<bool> {
    let metadata: Option<&ObjectMeta> = at.located.object.metadata();
    match metadata?.annotations.as_ref()?.get(ON_FAILURE)?.as_str() {
        "closed" => Some(true),
        "open" => Some(false),
        other => {
            let reason = format!("found `{other}`, accepted: open, closed");
            problems.error(
                at.located,
                format!("metadata.annotations[{ON_FAILURE}]"),
                reason,
            );
            None
        }
    }
}

fn has_sidecar(pod: &KubePod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let annotated = annotations.is_some_and(|annotations| {
        SIDECAR_ANNOTATIONS
            .iter()
            .any(|name| annotations.contains_key(*name))
    });
    annotated
        || pod.spec.as_ref().is_some_and(|spec| {
            let native = spec.init_containers.iter().flatten();
            spec.containers
                .iter()
                .chain(native)
                .any(|container| SIDECAR_CONTAINERS.contains(&container.name.as_str()))
        })
}
