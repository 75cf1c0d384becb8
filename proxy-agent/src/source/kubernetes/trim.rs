//! Cuts objects down to the fields that compilation reads: tens of thousands of them are kept.
//!
//! Must not change what an object means; a test compiles objects both whole and trimmed.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Namespace, Node, Pod, PodCondition, PodSpec, PodStatus, Service,
    ServiceSpec, ServiceStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::objects::Object;

/// Labels and annotations of the agent's own.
const OWN: &str = "proxy-agent.io/";
/// Annotations of Linkerd's, by their beginnings.
const LINKERD: [&str; 4] = [
    "balancer.linkerd.io/",
    "config.linkerd.io/opaque-ports",
    "retry.linkerd.io/",
    "timeout.linkerd.io/",
];
/// Annotations of pods that say who made them, or that they have a sidecar.
const OF_PODS: [&str; 3] = [
    "kubernetes.io/config.mirror",
    "linkerd.io/proxy-version",
    "sidecar.istio.io/status",
];
/// Label of nodes that says where they stand.
const OF_NODES: [&str; 1] = ["topology.kubernetes.io/zone"];
/// Label of Services that says whose they are.
const OF_SERVICES: [&str; 1] = ["service.kubernetes.io/service-proxy-name"];

/// Kinds whose status is read. That of others is its writers' alone: whatever they write there,
/// the object stands.
const WITH_STATUS: [&str; 2] = ["Pod", "Service"];

/// Takes out what is large or others', and never read, before an object is read at all.
pub(super) fn before_reading(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    let kind = object.get("kind").and_then(Value::as_str);
    if !kind.is_some_and(|kind| WITH_STATUS.contains(&kind))
        && let Value::Object(fields) = object
    {
        fields.remove("status");
    }
}

/// Keeps what compilation reads.
pub(super) fn trim(object: &mut Object) {
    match object {
        Object::Namespace(namespace) => trim_namespace(namespace),
        Object::Node(node) => trim_node(node),
        Object::Pod(pod) => trim_pod(pod),
        Object::Service(service) => trim_service(service),
        // Slices are cut down as they are read.
        Object::EndpointSlice(_) => {}
        Object::HttpRoute(route) => {
            route.metadata = route_metadata(std::mem::take(&mut route.metadata));
            route.status = None;
        }
        Object::GrpcRoute(route) => {
            route.shared.metadata = route_metadata(std::mem::take(&mut route.shared.metadata));
        }
        Object::TlsRoute(route) => {
            route.shared.metadata = route_metadata(std::mem::take(&mut route.shared.metadata));
        }
        Object::TcpRoute(route) => {
            route.shared.metadata = route_metadata(std::mem::take(&mut route.shared.metadata));
        }
        Object::VirtualService(service) => {
            service.metadata = route_metadata(std::mem::take(&mut service.metadata));
            service.status = None;
        }
        Object::DestinationRule(rule) => {
            rule.metadata = route_metadata(std::mem::take(&mut rule.metadata));
            rule.status = None;
        }
        Object::ServiceEntry(entry) => {
            entry.metadata = route_metadata(std::mem::take(&mut entry.metadata));
            entry.status = None;
        }
        Object::ReferenceGrant(grant) => {
            grant.metadata = route_metadata(std::mem::take(&mut grant.metadata));
        }
        Object::LinkerdService(service) => {
            service.metadata = route_metadata(std::mem::take(&mut service.metadata));
        }
        Object::LinkerdRoute(route) => {
            route.metadata = route_metadata(std::mem::take(&mut route.metadata));
        }
        Object::PolicyHttpRoute(route) => {
            route.0.metadata = route_metadata(std::mem::take(&mut route.0.metadata));
            route.0.status = None;
        }
        Object::ServiceProfile(profile) => {
            profile.metadata = route_metadata(std::mem::take(&mut profile.metadata));
        }
        Object::TrafficSplit(split) => {
            split.metadata = route_metadata(std::mem::take(&mut split.metadata));
        }
        Object::HttpRouteGroup(group) => {
            group.metadata = route_metadata(std::mem::take(&mut group.metadata));
        }
        Object::Resolution(_) | Object::Unknown => {}
    }
}

type Texts = Option<BTreeMap<String, String>>;

/// Those of a prefix of our own or of Linkerd's, or among `names`.
fn kept(texts: Texts, names: &[&str]) -> Texts {
    let mut texts = texts?;
    let read = |name: &str| name.starts_with(OWN) || LINKERD.iter().any(|of| name.starts_with(of));
    texts.retain(|name, _value| read(name) || names.contains(&name.as_str()));
    (!texts.is_empty()).then_some(texts)
}

fn identity(metadata: &mut ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name.take(),
        namespace: metadata.namespace.take(),
        ..ObjectMeta::default()
    }
}

/// Of routes: their age decides between them, and their generation is what a status is about.
fn route_metadata(mut metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        creation_timestamp: metadata.creation_timestamp.take(),
        generation: metadata.generation,
        uid: metadata.uid.take(),
        annotations: kept(metadata.annotations.take(), &[]),
        labels: kept(metadata.labels.take(), &[]),
        ..identity(&mut metadata)
    }
}

fn trim_namespace(namespace: &mut Namespace) {
    let metadata = &mut namespace.metadata;
    namespace.metadata = ObjectMeta {
        annotations: kept(metadata.annotations.take(), &[]),
        labels: kept(metadata.labels.take(), &[]),
        ..identity(metadata)
    };
    namespace.spec = None;
    namespace.status = None;
}

fn trim_node(node: &mut Node) {
    let metadata = &mut node.metadata;
    node.metadata = ObjectMeta {
        labels: kept(metadata.labels.take(), &OF_NODES),
        ..identity(metadata)
    };
    node.spec = None;
    node.status = None;
}

fn trim_pod(pod: &mut Pod) {
    let metadata = &mut pod.metadata;
    pod.metadata = ObjectMeta {
        annotations: kept(metadata.annotations.take(), &OF_PODS),
        deletion_timestamp: metadata.deletion_timestamp.take(),
        labels: metadata.labels.take(),
        uid: metadata.uid.take(),
        ..identity(metadata)
    };
    pod.spec = pod.spec.take().map(|spec| PodSpec {
        containers: spec.containers.into_iter().map(trim_container).collect(),
        host_network: spec.host_network,
        init_containers: spec
            .init_containers
            .map(|containers| containers.into_iter().map(trim_container).collect()),
        node_name: spec.node_name,
        ..PodSpec::default()
    });
    pod.status = pod.status.take().map(|status| PodStatus {
        conditions: status.conditions.map(|conditions| {
            let ready = conditions.into_iter().filter(|one| one.type_ == "Ready");
            ready.map(trim_condition).collect()
        }),
        phase: status.phase,
        pod_ip: status.pod_ip,
        pod_ips: status.pod_ips,
        ..PodStatus::default()
    });
}

fn trim_container(container: Container) -> Container {
    let port = |port: ContainerPort| ContainerPort {
        container_port: port.container_port,
        name: port.name,
        protocol: port.protocol,
        ..ContainerPort::default()
    };
    Container {
        name: container.name,
        ports: container
            .ports
            .map(|ports| ports.into_iter().map(port).collect()),
        ..Container::default()
    }
}

/// Without its times: they change while nothing else does.
fn trim_condition(condition: PodCondition) -> PodCondition {
    PodCondition {
        status: condition.status,
        type_: condition.type_,
        ..PodCondition::default()
    }
}

fn trim_service(service: &mut Service) {
    let metadata = &mut service.metadata;
    service.metadata = ObjectMeta {
        annotations: kept(metadata.annotations.take(), &[]),
        labels: kept(metadata.labels.take(), &OF_SERVICES),
        ..identity(metadata)
    };
    service.spec = service.spec.take().map(|spec| ServiceSpec {
        cluster_ip: spec.cluster_ip,
        cluster_ips: spec.cluster_ips,
        external_ips: spec.external_ips,
        internal_traffic_policy: spec.internal_traffic_policy,
        ports: spec.ports,
        publish_not_ready_addresses: spec.publish_not_ready_addresses,
        session_affinity: spec.session_affinity,
        traffic_distribution: spec.traffic_distribution,
        type_: spec.type_,
        ..ServiceSpec::default()
    });
    service.status = service.status.take().and_then(|status| {
        let balancer = status.load_balancer?;
        balancer.ingress.is_some().then(|| ServiceStatus {
            load_balancer: Some(balancer),
            ..ServiceStatus::default()
        })
    });
}

#[cfg(test)]
mod tests;
