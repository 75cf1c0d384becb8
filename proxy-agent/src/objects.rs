//! Every kind that is read, parsed from text, with its identity and its place.
//!
//! Owns the shapes of foreign objects and the errors in reading them. Must not decide what an
//! object means (`compile` does) nor touch files (`source` does).

mod accepted;
mod document;
mod name;
mod parts;
mod quantity;
mod read;
mod resolution;
mod set;
mod slice;
#[cfg(test)]
mod tests;

pub mod grpc;
pub mod istio;
pub mod linkerd;
pub mod service_profile;
pub mod smi;
pub mod stream;

use gateway_api::apis::experimental::httproutes::HttpRoute;
use gateway_api::apis::experimental::referencegrants::ReferenceGrant;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::{ObjectId, Place};

pub use parts::{Objects, Part};
pub use quantity::Quantity;
pub use read::{Format, Parsed, parse, read_served};
pub use resolution::Resolution;
pub use set::{KindPhase, KindState, ObjectSet, Origin};
pub use slice::{
    SERVICE_NAME, SLICE_KIND, ServedSlice, Slice, SliceAddress, SliceEndpoint, SliceHints,
    SlicePort, SliceState, read_served_slice,
};

/// An object, which one it is, and where it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    /// Its identity; the namespace is already defaulted.
    pub id: ObjectId,
    /// Where it was read.
    pub place: Place,
    /// What it is.
    pub object: Object,
    /// Field paths of rules that could not be read, as in `spec.rules[1]`: of them, the object holds
    /// the conditions alone, and they must fail for what these match.
    pub unread: Vec<String>,
}

impl Located {
    /// Whether the rule at this field path could not be read.
    pub fn is_unread(&self, field: &str) -> bool {
        self.unread.iter().any(|one| one == field)
    }
}

/// An object of a kind that the agent reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// `v1 Namespace`.
    Namespace(Box<Namespace>),
    /// `v1 Node`.
    Node(Box<Node>),
    /// `v1 Pod`.
    Pod(Box<Pod>),
    /// `v1 Service`.
    Service(Box<Service>),
    /// `discovery.k8s.io/v1 EndpointSlice`.
    EndpointSlice(Box<Slice>),
    /// `gateway.networking.k8s.io HTTPRoute`, v1 or v1beta1.
    HttpRoute(Box<HttpRoute>),
    /// `gateway.networking.k8s.io/v1 GRPCRoute`.
    GrpcRoute(Box<grpc::GrpcRoute>),
    /// `gateway.networking.k8s.io TLSRoute`, v1, v1alpha3 or v1alpha2.
    TlsRoute(Box<stream::TlsRoute>),
    /// `gateway.networking.k8s.io TCPRoute`, v1 or v1alpha2.
    TcpRoute(Box<stream::TcpRoute>),
    /// `gateway.networking.k8s.io ReferenceGrant`, v1 or v1beta1.
    ReferenceGrant(Box<ReferenceGrant>),
    /// `networking.istio.io VirtualService`, v1, v1beta1 or v1alpha3.
    VirtualService(Box<istio::VirtualService>),
    /// `networking.istio.io DestinationRule`, v1, v1beta1 or v1alpha3.
    DestinationRule(Box<istio::DestinationRule>),
    /// `networking.istio.io ServiceEntry`, v1, v1beta1 or v1alpha3.
    ServiceEntry(Box<istio::ServiceEntry>),
    /// What a name resolves to: of no manifest.
    Resolution(Box<Resolution>),
    /// `linkerd.io/v1 Service`.
    LinkerdService(Box<linkerd::Service>),
    /// `linkerd.io/v1 Route`.
    LinkerdRoute(Box<linkerd::Route>),
    /// `policy.linkerd.io HTTPRoute`, v1beta1 to v1beta3.
    PolicyHttpRoute(Box<linkerd::PolicyHttpRoute>),
    /// `linkerd.io ServiceProfile`, v1alpha2 or v1alpha1.
    ServiceProfile(Box<service_profile::ServiceProfile>),
    /// `split.smi-spec.io TrafficSplit`, v1alpha1 to v1alpha4.
    TrafficSplit(Box<smi::TrafficSplit>),
    /// `specs.smi-spec.io HTTPRouteGroup`, v1alpha1 to v1alpha4.
    HttpRouteGroup(Box<smi::HttpRouteGroup>),
    /// Any other kind: listed in `status`, otherwise left alone.
    Unknown,
}

impl Object {
    /// Its metadata; `None` for kinds of which it is not kept, or that are not read.
    pub fn metadata(&self) -> Option<&ObjectMeta> {
        match self {
            Self::Namespace(namespace) => Some(&namespace.metadata),
            Self::Node(node) => Some(&node.metadata),
            Self::Pod(pod) => Some(&pod.metadata),
            Self::Service(service) => Some(&service.metadata),
            Self::HttpRoute(route) => Some(&route.metadata),
            Self::GrpcRoute(route) => Some(&route.shared.metadata),
            Self::TlsRoute(route) => Some(&route.shared.metadata),
            Self::TcpRoute(route) => Some(&route.shared.metadata),
            Self::ReferenceGrant(grant) => Some(&grant.metadata),
            Self::VirtualService(service) => Some(&service.metadata),
            Self::DestinationRule(rule) => Some(&rule.metadata),
            Self::ServiceEntry(entry) => Some(&entry.metadata),
            Self::LinkerdService(service) => Some(&service.metadata),
            Self::LinkerdRoute(route) => Some(&route.metadata),
            Self::PolicyHttpRoute(route) => Some(&route.0.metadata),
            Self::ServiceProfile(profile) => Some(&profile.metadata),
            Self::TrafficSplit(split) => Some(&split.metadata),
            Self::HttpRouteGroup(group) => Some(&group.metadata),
            Self::EndpointSlice(_) | Self::Resolution(_) | Self::Unknown => None,
        }
    }
}
