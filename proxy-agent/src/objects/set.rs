//! What one source holds at one instant.

use std::sync::Arc;
use std::time::SystemTime;

use super::Objects;
use crate::model::{Place, Problem, Severity};

/// Where the objects of a set come from, which decides what may be filled in for them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Manifests: a Service may lack a clusterIP and EndpointSlices, and gets both.
    Files,
    /// An API server: Services are complete.
    Cluster,
}

/// All objects of one source, and how the source fares.
#[derive(Clone, Debug)]
pub struct ObjectSet {
    /// The source as given on the command line.
    pub source: Arc<str>,
    /// Where its objects come from.
    pub origin: Origin,
    /// Whether the first full read is done.
    pub synced: bool,
    /// What ails the source as a whole, e.g. a directory that is gone; empty if nothing.
    pub trouble: String,
    /// When its objects or problems last changed.
    pub changed: SystemTime,
    /// Its objects, each identity once.
    pub objects: Objects,
    /// What is wrong with what it read.
    pub problems: Vec<Problem>,
    /// How each kind fares, where the source follows kinds one by one.
    pub kinds: Vec<KindState>,
}

/// How one kind of a source fares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KindState {
    /// Kind and group, as in `HTTPRoute.gateway.networking.k8s.io`.
    pub kind: Arc<str>,
    /// What is known of it.
    pub phase: KindPhase,
    /// The version that is read; empty where there is none.
    pub version: &'static str,
    /// Objects in force.
    pub objects: usize,
    /// When the phase began.
    pub since: SystemTime,
    /// Why the phase is not `synced`; empty where nothing is to be said.
    pub detail: String,
}

/// What is known of a kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KindPhase {
    /// Being listed; what was known before stays in force.
    Syncing,
    /// Listed, and followed.
    Synced,
    /// Not served: its definition is not installed, or in no version that is read.
    Absent,
    /// The agent may not list or watch it; what was known before stays in force.
    Forbidden,
    /// Not followed at the moment; what was known before stays in force.
    Lost,
}

impl KindPhase {
    /// Stable text for `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Synced => "synced",
            Self::Absent => "absent",
            Self::Forbidden => "forbidden",
            Self::Lost => "lost",
        }
    }
}

impl ObjectSet {
    /// A source that has not spoken yet.
    pub fn unsynced(source: Arc<str>, origin: Origin) -> Self {
        Self {
            source,
            origin,
            synced: false,
            trouble: String::new(),
            changed: SystemTime::now(),
            objects: Objects::default(),
            problems: Vec::new(),
            kinds: Vec::new(),
        }
    }

    /// The trouble of the source as a whole, if there is any.
    pub fn trouble_as_problem(&self) -> Option<Problem> {
        (!self.trouble.is_empty()).then(|| Problem {
            severity: Severity::Error,
            place: Some(Place {
                source: Arc::clone(&self.source),
                line: 0,
            }),
            object: None,
            field: String::new(),
            reason: self.trouble.clone(),
        })
    }
}
