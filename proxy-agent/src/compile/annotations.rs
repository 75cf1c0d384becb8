//! Linkerd's annotations: what they say of retries, timeouts, opaque ports and failing endpoints.
//!
//! A value that cannot be read is named and counts as absent. Who goes by them is decided elsewhere.

mod failure_accrual;
mod opaque_ports;
mod retry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};

use super::duration::go;
use super::index::At;
use super::problems::Problems;
use super::service::{Declared, Port};
use crate::model::{Retry, StreamLimits, Timeouts};
use crate::objects::{Located, Object};

pub(super) use opaque_ports::{OpaquePorts, of_namespace};

/// Limits on requests.
const TIMEOUT: &str = "timeout.linkerd.io/";
/// On a pod it would be the endpoint's, of which clients on other nodes do not know.
const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";

/// What an object's annotations say of its requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Annotated {
    /// When and how often they are sent again.
    pub retry: Option<Retry>,
    /// How long they may take.
    pub limits: Option<Limits>,
}

/// How long requests may take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    /// Until the response's head.
    pub timeouts: Timeouts,
    /// Until its end.
    pub stream: Option<StreamLimits>,
}

/// What bears the annotations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bearer {
    Service,
    HttpRoute,
    GrpcRoute,
    Namespace,
    Pod,
    Other,
}

impl Bearer {
    const fn of(object: &Object) -> Self {
        match object {
            Object::Service(_) => Self::Service,
            Object::HttpRoute(_) | Object::PolicyHttpRoute(_) => Self::HttpRoute,
            Object::GrpcRoute(_) => Self::GrpcRoute,
            Object::Namespace(_) => Self::Namespace,
            Object::Pod(_) => Self::Pod,
            Object::Node(_)
            | Object::EndpointSlice(_)
            | Object::ReferenceGrant(_)
            | Object::VirtualService(_)
            | Object::DestinationRule(_)
            | Object::ServiceEntry(_)
            | Object::Resolution(_)
            | Object::TlsRoute(_)
            | Object::TcpRoute(_)
            | Object::LinkerdService(_)
            | Object::LinkerdRoute(_)
            | Object::ServiceProfile(_)
            | Object::TrafficSplit(_)
            | Object::HttpRouteGroup(_)
            | Object::Unknown => Self::Other,
        }
    }

    /// The annotations that are read of it.
    const fn accepted(self) -> &'static [&'static str] {
        match self {
            Self::Service => &[
                "retry.linkerd.io/http",
                "retry.linkerd.io/grpc",
                "retry.linkerd.io/limit",
                "retry.linkerd.io/timeout",
                "timeout.linkerd.io/request",
                "timeout.linkerd.io/response",
                "timeout.linkerd.io/idle",
                "balancer.linkerd.io/failure-accrual",
                "balancer.linkerd.io/failure-accrual-consecutive-max-failures",
                "balancer.linkerd.io/failure-accrual-consecutive-min-penalty",
                "balancer.linkerd.io/failure-accrual-consecutive-max-penalty",
                "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio",
                OPAQUE_PORTS,
            ],
            Self::HttpRoute => &[
                "retry.linkerd.io/http",
                "retry.linkerd.io/limit",
                "retry.linkerd.io/timeout",
                "timeout.linkerd.io/request",
                "timeout.linkerd.io/response",
                "timeout.linkerd.io/idle",
            ],
            Self::GrpcRoute => &[
                "retry.linkerd.io/grpc",
                "retry.linkerd.io/limit",
                "retry.linkerd.io/timeout",
                "timeout.linkerd.io/request",
                "timeout.linkerd.io/response",
                "timeout.linkerd.io/idle",
            ],
            Self::Namespace => &[OPAQUE_PORTS],
            Self::Pod | Self::Other => &[],
        }
    }
}

/// An object's annotations, with what is wrong with it.
struct Reader<'a> {
    located: &'a Located,
    texts: Option<&'a BTreeMap<String, String>>,
    problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    fn new(located: &'a Located, problems: &'a mut Problems) -> Self {
        let metadata = located.object.metadata();
        Self {
            located,
            texts: metadata.and_then(|metadata| metadata.annotations.as_ref()),
            problems,
        }
    }

    /// The value of an annotation that this object may have.
    fn text(&self, name: &str) -> Option<&'a str> {
        let accepted = Bearer::of(&self.located.object).accepted();
        let texts = self.texts.filter(|_| accepted.contains(&name))?;
        texts.get(name).map(String::as_str)
    }

    /// A value as `parse` reads it.
    fn read<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(self.text(name)?) {
            Ok(value) => Some(value),
            Err(reason) => {
                let reason = format!("{reason}; counts as absent");
                self.problems.error(self.located, field(name), reason);
                None
            }
        }
    }

    fn warn(&mut self, name: &str, reason: impl Into<String>) {
        self.problems.warning(self.located, field(name), reason);
    }
}

fn field(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

/// What a Service or a route says of its requests.
pub(super) fn read(located: &Located, problems: &mut Problems) -> Annotated {
    let mut reader = Reader::new(located, problems);
    if reader.texts.is_none() {
        return Annotated::default();
    }
    Annotated {
        retry: retry::read(&mut reader),
        limits: limits(&mut reader),
    }
}

fn limits(reader: &mut Reader<'_>) -> Option<Limits> {
    let mut time = |name: &str| {
        let time = reader.read(&format!("{TIMEOUT}{name}"), duration);
        time.filter(|time| !time.is_zero())
    };
    let (request, response, idle) = (time("request"), time("response"), time("idle"));
    let whole = [request, response].into_iter().flatten().min();
    if whole.is_none() && idle.is_none() {
        return None;
    }
    Some(Limits {
        timeouts: Timeouts {
            request: whole,
            backend_request: None,
        },
        stream: Some(StreamLimits { whole, idle }),
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    go(text).ok_or_else(|| format!("found `{text}`, expected a duration as in 200ms or 15s"))
}

/// Applies a Service's annotations, and its namespace's, to its ports.
pub(super) fn apply(
    at: &At<'_, Service>,
    namespace: Option<&At<'_, Namespace>>,
    ports: &mut [Port],
    problems: &mut Problems,
) {
    let annotated = read(at.located, problems);
    let defaults = (annotated != Annotated::default()).then(|| Arc::new(annotated));
    let mut reader = Reader::new(at.located, problems);
    let failure_accrual = failure_accrual::read(&mut reader);
    let own = reader.read(OPAQUE_PORTS, OpaquePorts::parse);
    let said = reader.text(OPAQUE_PORTS).is_some();
    let inherited = namespace.filter(|_| !said).and_then(of_namespace);
    let opaque = own.or(inherited).unwrap_or_default();
    for port in ports {
        port.defaults.clone_from(&defaults);
        port.failure_accrual = failure_accrual;
        if opaque.covers(port.number, &port.name) {
            port.declared = Declared::Opaque;
        }
    }
}

/// Names every annotation of Linkerd's that changes nothing where it stands.
pub(super) fn name_what_is_without_effect(located: &Located, problems: &mut Problems) {
    let bearer = Bearer::of(&located.object);
    let mut reader = Reader::new(located, problems);
    for name in reader.texts.into_iter().flat_map(BTreeMap::keys) {
        let read = ["retry", "timeout", "balancer"];
        let ours = read
            .iter()
            .any(|group| name.starts_with(&format!("{group}.linkerd.io/")));
        if !(ours || name == OPAQUE_PORTS) || bearer.accepted().contains(&name.as_str()) {
            continue;
        }
        let reason = match bearer {
            Bearer::Pod if name == OPAQUE_PORTS => {
                "has no effect on a Pod, whose own address is left alone; for connections to a \
                 Service, set it there or on its Namespace"
                    .to_owned()
            }
            Bearer::Pod | Bearer::Other => "has no effect here".to_owned(),
            Bearer::Service | Bearer::HttpRoute | Bearer::GrpcRoute | Bearer::Namespace => {
                format!(
                    "has no effect here; accepted: {}",
                    bearer.accepted().join(", ")
                )
            }
        };
        reader.warn(name, reason);
    }
    if bearer == Bearer::Namespace {
        reader.read(OPAQUE_PORTS, OpaquePorts::parse);
    }
}
