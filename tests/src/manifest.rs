//! Kubernetes objects as the API server would show them, written by the harness.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// What a Pod manifest says.
#[derive(Clone, Copy, Debug)]
pub struct PodFields<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// uid: the same as in its cgroup's name.
    pub uid: &'a str,
    /// Node that it runs on.
    pub node: &'a str,
    /// Labels, a JSON object.
    pub labels: &'a Value,
    /// Annotations, a JSON object.
    pub annotations: &'a Value,
    /// `status.podIPs`.
    pub ips: &'a [IpAddr],
}

/// A running, ready Pod.
pub fn pod(fields: &PodFields<'_>) -> Value {
    let ips: Vec<Value> = fields.ips.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": fields.namespace,
            "name": fields.name,
            "uid": fields.uid,
            "labels": fields.labels,
            "annotations": fields.annotations,
        },
        "spec": {
            "nodeName": fields.node,
            "containers": [{ "name": "app", "image": "none" }],
        },
        "status": {
            "phase": "Running",
            "podIP": fields.ips.first(),
            "podIPs": ips,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

/// An EndpointSlice of one address family.
pub fn endpoint_slice(service: &Value, family: &str, addresses: &[(String, IpAddr)]) -> Value {
    let metadata = &service["metadata"];
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|(pod, ip)| {
            json!({
                "addresses": [ip],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "targetRef": { "kind": "Pod", "namespace": metadata["namespace"], "name": pod },
            })
        })
        .collect();
    let ports = service["spec"]["ports"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| {
            json!({
                "name": port["name"],
                "protocol": "TCP",
                "port": port["targetPort"],
                "appProtocol": port["appProtocol"],
            })
        })
        .collect();
    let name = metadata["name"].as_str().unwrap_or_default();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": metadata["namespace"],
            "name": format!("{name}-{}", family.to_lowercase()),
            "labels": { "kubernetes.io/service-name": name },
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": ports,
    })
}

/// An HTTPRoute on a Service of namespace `default`.
pub fn http_route(name: &str, service: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "namespace": "default", "name": name },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": service, "port": 80 }],
            "rules": rules,
        },
    })
}

/// A Service that nobody calls, of a new name each time: where it is in force, so is all that was written
/// with it.
pub(crate) fn mark() -> Value {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": "default", "name": format!("mark-{number}") },
        "spec": { "clusterIP": "None", "ports": [{ "name": "tcp", "port": 1 }] },
    })
}

/// A uid in Kubernetes' form, different for every pod of a node.
pub(crate) fn uid(name: &str, ip: IpAddr) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325; // FNV-1a
    for byte in format!("{name}/{ip}/{}", std::process::id()).bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let (high, low) = (hash >> 32, hash & 0xffff_ffff);
    format!("{high:08x}-{:04x}-4000-8000-0000{low:08x}", low & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_differ_and_have_the_usual_form() {
        let [a, b] = [1, 2].map(|last| uid("web", IpAddr::from([10, 244, 0, last])));
        assert_ne!(a, b);
        assert_eq!(
            a.split('-').map(str::len).collect::<Vec<_>>(),
            [8, 4, 4, 4, 12]
        );
    }
}
