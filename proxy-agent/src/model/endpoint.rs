//! One address that serves a cluster, and those that would if they could.

use std::net::SocketAddr;
use std::sync::Arc;

/// A usable address of a cluster: only endpoints that may receive requests are in a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Where to connect to.
    pub address: SocketAddr,
    /// `namespace/name` of the pod behind it, where known.
    pub pod: Option<Arc<str>>,
    /// Node that the pod runs on, where known.
    pub node: Option<Arc<str>>,
    /// Zone of that node, where known.
    pub zone: Option<Arc<str>>,
    /// Its share beside the cluster's other endpoints, at least 1: all are equal unless a
    /// ServiceEntry says otherwise.
    pub weight: u32,
}

/// Something that a cluster's Service names and that gets no requests now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftOut {
    /// Where it would be, if it has an address and the port.
    pub address: Option<SocketAddr>,
    /// `namespace/name` of the pod behind it, where known.
    pub pod: Option<Arc<str>>,
    /// Why.
    pub why: WhyLeftOut,
}

/// Why an endpoint gets no requests.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum WhyLeftOut {
    /// It is not ready.
    NotReady,
    /// It is on its way out.
    Terminating,
    /// It is for other nodes or zones: the Service's policy, or the hints of its slices.
    Elsewhere,
    /// Its pod has ended.
    Completed,
    /// Its pod has no address yet.
    NoAddress,
    /// Its pod has no port of the name that the Service's `targetPort` gives.
    NoSuchPort,
}

impl WhyLeftOut {
    /// For the user.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotReady => "not ready",
            Self::Terminating => "terminating",
            Self::Elsewhere => "for other nodes or zones",
            Self::Completed => "its pod has ended",
            Self::NoAddress => "its pod has no address yet",
            Self::NoSuchPort => "its pod has no port of the targetPort's name",
        }
    }
}
