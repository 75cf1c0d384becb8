//! Everything that the agent serves by, at one instant.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Cluster, ClusterId, Listener, ObjectId, Place, Pod, Problem, RouteParent, RouteTable};

/// Immutable result of compiling all objects. Workers read it, the reconciler diffs it into maps.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts up by one with every snapshot; 0 is the empty one before the first sync.
    pub version: u64,
    /// When it was made.
    pub created: SystemTime,
    /// Every Service port, sorted by namespace, name, port.
    pub listeners: Vec<Arc<Listener>>,
    /// Listener of each original destination with the verdict proxy. IPv4 is never v4-mapped here.
    pub by_address: HashMap<SocketAddr, Arc<Listener>>,
    /// By [`ClusterId`]; an id that is not in use is `None`.
    pub clusters: Vec<Option<Arc<Cluster>>>,
    /// Virtual hosts (`linkerd.io/v1`): client namespace → authority (lower case, no port) → routes.
    pub virtual_hosts: HashMap<Arc<str>, HashMap<Arc<str>, Arc<RouteTable>>>,
    /// Pods by uid.
    pub pods: HashMap<Arc<str>, Arc<Pod>>,
    /// Their labels by uid, for the rules that ask for them.
    pub pod_labels: HashMap<Arc<str>, BTreeMap<String, String>>,
    /// Every object of a known kind that was read, and where.
    pub objects: Vec<(ObjectId, Place)>,
    /// Objects of kinds that the agent does not read.
    pub unknown_kinds: Vec<(ObjectId, Place)>,
    /// What became of each Gateway API route at each Service that it names as a parent.
    pub route_parents: Vec<RouteParent>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl Snapshot {
    /// The snapshot before any source has spoken: everything passes.
    pub fn empty() -> Self {
        Self {
            version: 0,
            created: SystemTime::now(),
            listeners: Vec::new(),
            by_address: HashMap::new(),
            clusters: Vec::new(),
            virtual_hosts: HashMap::new(),
            pods: HashMap::new(),
            pod_labels: HashMap::new(),
            objects: Vec::new(),
            unknown_kinds: Vec::new(),
            route_parents: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The cluster of an id of this snapshot.
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.get(id.index())?.as_ref()
    }
}
