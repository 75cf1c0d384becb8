//! One address that serves a cluster.

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
}
