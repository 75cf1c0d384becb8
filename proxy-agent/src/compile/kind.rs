//! The kinds of objects as types, to be asked for by type.

use gateway_api::apis::experimental::httproutes::HttpRoute;
use gateway_api::apis::experimental::referencegrants::ReferenceGrant;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};

use crate::objects::{
    Object, Resolution, Slice, grpc, istio, linkerd, service_profile, smi, stream,
};

/// A kind that is compiled.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    TcpRoute,
    ReferenceGrant,
    VirtualService,
    DestinationRule,
    ServiceEntry,
    Resolution,
    LinkerdService,
    LinkerdRoute,
    PolicyHttpRoute,
    ServiceProfile,
    TrafficSplit,
    HttpRouteGroup,
}

impl Kind {
    /// The kind of an object; `None` for those that are not read.
    pub(super) const fn of(object: &Object) -> Option<Self> {
        Some(match object {
            Object::Namespace(_) => Self::Namespace,
            Object::Node(_) => Self::Node,
            Object::Pod(_) => Self::Pod,
            Object::Service(_) => Self::Service,
            Object::EndpointSlice(_) => Self::EndpointSlice,
            Object::HttpRoute(_) => Self::HttpRoute,
            Object::GrpcRoute(_) => Self::GrpcRoute,
            Object::TlsRoute(_) => Self::TlsRoute,
            Object::TcpRoute(_) => Self::TcpRoute,
            Object::ReferenceGrant(_) => Self::ReferenceGrant,
            Object::VirtualService(_) => Self::VirtualService,
            Object::DestinationRule(_) => Self::DestinationRule,
            Object::ServiceEntry(_) => Self::ServiceEntry,
            Object::Resolution(_) => Self::Resolution,
            Object::LinkerdService(_) => Self::LinkerdService,
            Object::LinkerdRoute(_) => Self::LinkerdRoute,
            Object::PolicyHttpRoute(_) => Self::PolicyHttpRoute,
            Object::ServiceProfile(_) => Self::ServiceProfile,
            Object::TrafficSplit(_) => Self::TrafficSplit,
            Object::HttpRouteGroup(_) => Self::HttpRouteGroup,
            Object::Unknown => return None,
        })
    }
}

/// The type of a kind.
pub(super) trait Typed: Sized + 'static {
    /// Its kind.
    const KIND: Kind;

    /// The object as this type, if it is of its kind.
    fn of(object: &Object) -> Option<&Self>;
}

macro_rules! typed {
    ($($kind:ident: $type:ty),* $(,)?) => {$(
        impl Typed for $type {
            const KIND: Kind = Kind::$kind;

            fn of(object: &Object) -> Option<&Self> {
                let Object::$kind(object) = object else {
                    return None;
                };
                Some(object)
            }
        }
    )*};
}

typed! {
    Namespace: Namespace,
    Node: Node,
    Pod: Pod,
    Service: Service,
    EndpointSlice: Slice,
    HttpRoute: HttpRoute,
    GrpcRoute: grpc::GrpcRoute,
    TlsRoute: stream::TlsRoute,
    TcpRoute: stream::TcpRoute,
    ReferenceGrant: ReferenceGrant,
    VirtualService: istio::VirtualService,
    DestinationRule: istio::DestinationRule,
    ServiceEntry: istio::ServiceEntry,
    Resolution: Resolution,
    LinkerdService: linkerd::Service,
    LinkerdRoute: linkerd::Route,
    PolicyHttpRoute: linkerd::PolicyHttpRoute,
    ServiceProfile: service_profile::ServiceProfile,
    TrafficSplit: smi::TrafficSplit,
    HttpRouteGroup: smi::HttpRouteGroup,
}
