//! Everything that the agent serves by, at one instant.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::{
    Cluster, ClusterId, Clusters, Listener, ObjectId, Place, Pod, Problem, RouteParent, RouteTable,
};

/// Listeners by original destination. Every request asks here, for what the cluster's own objects have put in: a
/// hash that is quick rather than one that withstands chosen keys.
pub type ByAddress = HashMap<SocketAddr, Arc<Listener>, foldhash::fast::RandomState>;

/// Routes by authority: lower case, no port.
pub type Hosts = HashMap<Arc<str>, Arc<RouteTable>>;

/// Immutable result of compiling all objects. Workers read it, the reconciler diffs it into maps.
/// A part that stays the same from one snapshot to the next is the same `Arc`.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts up by one with every snapshot; 0 is the empty one before the first sync.
    pub version: u64,
    /// When it was made.
    pub created: SystemTime,
    /// Every Service port, sorted by namespace, name, port.
    pub listeners: Arc<[Arc<Listener>]>,
    /// Listener of each original destination that does not pass. IPv4 is never v4-mapped here.
    pub by_address: Arc<ByAddress>,
    /// By [`ClusterId`].
    pub clusters: Clusters,
    /// Names of Service ports that do not pass and have no usable endpoint, sorted: requests and
    /// connections can only fail.
    pub unserved: Arc<[Arc<str>]>,
    /// Virtual hosts (`linkerd.io/v1`): client namespace → authority (lower case, no port) → routes.
    pub virtual_hosts: Arc<HashMap<Arc<str>, Hosts>>,
    /// Pods by uid.
    pub pods: Arc<HashMap<Arc<str>, Arc<Pod>>>,
    /// Their labels by uid, for the rules that ask for them.
    pub pod_labels: Arc<HashMap<Arc<str>, BTreeMap<String, String>>>,
    /// Number of objects of kinds that the agent reads.
    pub objects: usize,
    /// Objects of kinds that the agent does not read.
    pub unknown_kinds: Arc<[(ObjectId, Place)]>,
    /// What became of each Gateway API route at each Service that it names as a parent.
    pub route_parents: Arc<[Arc<RouteParent>]>,
    /// Names that are to be resolved, in order, each once.
    pub lookups: Arc<[Arc<str>]>,
    /// What is wrong.
    pub problems: Arc<[Arc<Problem>]>,
}

impl Snapshot {
    /// The snapshot before any source has spoken: everything passes.
    pub fn empty() -> Self {
        Self {
            version: 0,
            created: SystemTime::now(),
            listeners: Arc::default(),
            by_address: Arc::default(),
            clusters: Clusters::default(),
            unserved: Arc::default(),
            virtual_hosts: Arc::default(),
            pods: Arc::default(),
            pod_labels: Arc::default(),
            objects: 0,
            unknown_kinds: Arc::default(),
            route_parents: Arc::default(),
            lookups: Arc::default(),
            problems: Arc::default(),
        }
    }

    /// The cluster of an id of this snapshot.
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.get(id)
    }
}
