//! What one source holds at one instant.

use std::sync::Arc;
use std::time::SystemTime;

use super::Located;
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
    pub objects: Vec<Arc<Located>>,
    /// What is wrong with what it read.
    pub problems: Vec<Problem>,
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
            objects: Vec::new(),
            problems: Vec::new(),
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
