//! Objects of all sources → one [`Snapshot`].
//!
//! Pure: reads no file and no clock but for the snapshot's own time stamp. A bad object, or a bad
//! part of one, is named with its field path among the problems and never harms another.
//!
//! Incremental: what came of each Service, route and pod is kept until something that it was made
//! of changes, which the sources' `Arc`s tell. The result never depends on what was kept: a
//! compiler that forgets everything makes the same snapshot.

mod address;
mod annotations;
mod attach;
mod by_key;
mod cluster_ids;
mod defaults;
mod difference;
mod direct;
mod dirty;
mod duration;
mod endpoints;
mod faults;
mod gateway_api;
mod index;
mod istio;
mod kept;
mod kind;
mod labels;
mod linkerd;
mod nearby;
mod pod;
mod precedence;
mod problems;
mod re2;
mod routes;
mod scope;
mod service;
mod service_profile;
mod smi;
mod streams;
mod switches;
mod tables;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use self::address::Allocator;
use self::cluster_ids::ClusterIds;
use self::dirty::Dirty;
use self::kept::Kept;
use crate::model::Snapshot;
use crate::objects::ObjectSet;

pub use self::address::{CidrError, ServiceCidr};

/// What compilation goes by, beside the objects.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// Range for Services from files that have no clusterIP.
    pub service_cidr: ServiceCidr,
    /// Captures every pod that does not say otherwise.
    pub capture_all: bool,
    /// Which pods' connections are accelerated.
    pub acceleration: Acceleration,
    /// The agent's own namespace, which `capture_all` leaves out.
    pub agent_namespace: Option<String>,
    /// Pods of other nodes are not captured here, and some endpoints are for some nodes alone.
    pub node_name: Option<String>,
}

/// Which pods' connections are accelerated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Acceleration {
    /// No pod's, whatever it asks for.
    #[default]
    Off,
    /// Those of pods that ask for it.
    OptIn,
    /// Those of every pod that does not ask to be left out.
    On,
}

/// Compiles snapshots, and keeps what must, or may, stay the same from one to the next.
#[derive(Debug, Default)]
pub struct Compiler {
    ids: ClusterIds,
    allocator: Allocator,
    version: u64,
    kept: Kept,
}

impl Compiler {
    /// Compiles everything that the sources hold. Of an object in two sets the first set's counts.
    ///
    /// Costs what depends on the objects that are others than at the last call, as long as the
    /// sources stay the same ones and in their order, and the options too.
    pub fn compile(&mut self, sets: &[Arc<ObjectSet>], options: &Options) -> Snapshot {
        // Names of clusters that nothing has; those of Services that are looked at again at first.
        let mut free: BTreeSet<Arc<str>> = BTreeSet::new();
        if !self.kept.is_of(sets, options) {
            free.extend(self.ids.names().cloned());
            self.kept = Kept::new(options.clone());
        }
        let kept = &mut self.kept;
        let changes = kept.take_over(sets);
        let mut dirty = Dirty::default();
        for change in &changes {
            dirty.note(change, kept);
        }
        kept.services(&mut dirty, &mut self.allocator, &mut self.ids, &mut free);
        kept.rules(&dirty);
        kept.groups(&dirty);
        kept.entries(&dirty);
        kept.endpoints(&dirty);
        kept.routes(&mut dirty);
        kept.linkerd(&mut dirty, &mut self.ids, &mut free);
        kept.tables(&dirty);
        kept.pods(&dirty);
        self.ids.free(&free);
        self.version += 1;
        let (version, created) = (self.version, SystemTime::now());
        kept.snapshot(version, created, &dirty)
    }

    /// Forgets what only saves work.
    #[cfg(test)]
    fn forget(&mut self) {
        self.kept = Kept::default();
    }
}
