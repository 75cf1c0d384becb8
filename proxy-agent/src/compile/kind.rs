//! The kinds of objects as types, to be asked for by type.

use gateway_api::apis::experimental::httproutes::HttpRoute;
use gateway_api::apis::experimental::referencegrants::ReferenceGrant;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};

use crate::objects::{Object, Slice, grpc, istio, linkerd, service_profile, smi};

/// A kind that is compiled.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Namespace,
    Pod,
    Service,
    EndpointSlice,
    HttpRoute,
    GrpcRoute,
    ReferenceGrant,
    VirtualService,
    DestinationRule,
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
            Object::Pod(_) => Self::Pod,
            Object::Service(_) => Self::Service,
            Object::EndpointSlice(_) => Self::EndpointSlice,
            Object::HttpRoute(_) => Self::HttpRoute,
            Object::GrpcRoute(_) => Self::GrpcRoute,
            Object::ReferenceGrant(_) => Self::ReferenceGrant,
            Object::VirtualService(_) => Self::VirtualService,
            Object::DestinationRule(_) => Self::DestinationRule,
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
    Pod: Pod,
    Service: Service,
    EndpointSlice: Slice,
    HttpRoute: HttpRoute,
    GrpcRoute: grpc::GrpcRoute,
    ReferenceGrant: ReferenceGrant,
    VirtualService: istio::VirtualService,
    DestinationRule: istio::DestinationRule,
    LinkerdService: linkerd::Service,
    LinkerdRoute: linkerd::Route,
    PolicyHttpRoute: linkerd::PolicyHttpRoute,
    ServiceProfile: service_profile::ServiceProfile,
    TrafficSplit: smi::TrafficSplit,
    HttpRouteGroup: smi::HttpRouteGroup,
}
