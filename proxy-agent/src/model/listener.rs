//! A Service port: the addresses that pods connect to and what becomes of such a connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{ClusterId, ObjectId, RouteTable, StreamTable, WeightedDestination};

/// What the agent takes a proxied connection for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListenerProtocol {
    /// HTTP/1.1 or HTTP/2; the first bytes are looked at, and what is no HTTP is opaque TCP.
    Http,
    /// Opaque TCP: the first bytes are not looked at.
    Tcp,
}

/// Why a Service port is left to the node's ordinary path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PassReason {
    /// Port 53.
    Dns,
    /// `default/kubernetes`.
    ApiServer,
    /// Protocol UDP or SCTP.
    NotTcp,
    /// `clusterIP: None`.
    Headless,
    /// `type: ExternalName`.
    ExternalName,
    /// A load balancer address with `ipMode: Proxy`.
    IpModeProxy,
    /// Label `service.kubernetes.io/service-proxy-name`.
    OtherProxy,
    /// Annotation `proxy-agent.io/mode: pass`.
    Mode,
}

impl PassReason {
    /// Stable text for `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::ApiServer => "api-server",
            Self::NotTcp => "not-tcp",
            Self::Headless => "headless",
            Self::ExternalName => "external-name",
            Self::IpModeProxy => "ip-mode-proxy",
            Self::OtherProxy => "other-proxy",
            Self::Mode => "mode",
        }
    }
}

/// What the connect hooks do with connections to the listener's addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListenerVerdict {
    /// To the agent.
    Proxy(ListenerProtocol),
    /// To an endpoint without the agent: of [`Listener::direct_destinations`], or else of the
    /// listener's own cluster. Where the kernel has no room for them the agent carries them, as
    /// opaque TCP.
    Direct,
    /// Left alone.
    Pass(PassReason),
}

/// One port of one Service.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub service: Arc<str>,
    /// Port of the Service, host byte order.
    pub port: u16,
    /// Name of the port, empty if it has none.
    pub port_name: Arc<str>,
    /// Every address that a pod may use for it. Empty for headless Services.
    pub addresses: Vec<SocketAddr>,
    /// Namespaces whose clients it is for, `None` for all: others go where they asked to go.
    pub clients: Option<Arc<[Arc<str>]>>,
    /// What is done with connections to it.
    pub verdict: ListenerVerdict,
    /// The Service port's own endpoints: where opaque TCP goes, and the implicit route.
    pub cluster: ClusterId,
    /// Routes for clients of every namespace (producer routes, or the implicit catch-all).
    pub routes: Arc<RouteTable>,
    /// Routes that only clients of the named namespace see, instead of `routes`.
    pub consumer_routes: HashMap<Arc<str>, Arc<RouteTable>>,
    /// Routes that would apply if others did not stand before them.
    pub shadowed: Vec<Shadowed>,
    /// Rules for connections that are not taken for HTTP; without any they go to `cluster`.
    pub streams: Option<Arc<StreamTable>>,
    /// The same for clients of the named namespace, all of which are in `consumer_routes` too.
    pub consumer_streams: HashMap<Arc<str>, Arc<StreamTable>>,
}

/// A route that has no effect because another one decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shadowed {
    /// The route.
    pub object: ObjectId,
    /// The one that decides.
    pub by: ObjectId,
    /// The one namespace whose clients it is for; `None` for all.
    pub clients: Option<Arc<str>>,
}

impl Listener {
    /// Whether it is for a client in `namespace`.
    pub fn is_for(&self, namespace: &str) -> bool {
        let all = self.clients.as_deref();
        all.is_none_or(|all| all.iter().any(|one| **one == *namespace))
    }

    /// The table that applies to a client in `namespace`.
    pub fn routes_for(&self, namespace: &str) -> &Arc<RouteTable> {
        self.consumer_routes.get(namespace).unwrap_or(&self.routes)
    }

    /// Where its direct connections go by weight, if a route says so: the same for every client.
    pub fn direct_destinations(&self) -> Option<&Arc<[WeightedDestination]>> {
        let of_all = self.consumer_routes.is_empty() && self.consumer_streams.is_empty();
        self.streams.as_ref().filter(|_| of_all)?.for_everybody()
    }

    /// The rules for a client's connections that are not taken for HTTP.
    pub fn streams_for(&self, namespace: &str) -> Option<&Arc<StreamTable>> {
        if self.consumer_routes.contains_key(namespace) {
            return self.consumer_streams.get(namespace);
        }
        self.streams.as_ref()
    }
}
