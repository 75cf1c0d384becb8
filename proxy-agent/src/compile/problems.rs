//! What is wrong: gathered for one part at a time, and kept by part.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::by_key::Name;
use crate::model::{Problem, Severity};
use crate::objects::Located;

/// The problems found so far in one part.
#[derive(Debug, Default)]
pub(super) struct Problems(pub Vec<Problem>);

impl Problems {
    /// The object, or the part that `field` names, is not in effect.
    pub(super) fn error(
        &mut self,
        at: &Located,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) {
        self.push(Severity::Error, at, field.into(), reason.into());
    }

    /// In effect, but probably not as meant.
    pub(super) fn warning(
        &mut self,
        at: &Located,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) {
        self.push(Severity::Warning, at, field.into(), reason.into());
    }

    /// An error that is found again for every port that it concerns: named once.
    pub(super) fn once(&mut self, at: &Located, field: String, reason: String) {
        let known =
            |problem: &Problem| problem.object.as_ref() == Some(&at.id) && problem.field == field;
        if !self.0.iter().any(known) {
            self.push(Severity::Error, at, field, reason);
        }
    }

    /// Drops what was found since there were `known` of them and is among these already: the same
    /// part is compiled for one port after the other.
    pub(super) fn drop_repeated(&mut self, known: usize) {
        let found = self.0.split_off(known.min(self.0.len()));
        for problem in found {
            if !self.0.contains(&problem) {
                self.0.push(problem);
            }
        }
    }

    fn push(&mut self, severity: Severity, at: &Located, field: String, reason: String) {
        self.0.push(Problem {
            severity,
            place: Some(at.place.clone()),
            object: Some(at.id.clone()),
            field,
            reason,
        });
    }
}

/// Parts whose problems come and go together, in the order in which they are listed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Part {
    /// A source as a whole, by its number.
    Source,
    /// An object that stands in several sources.
    Twice,
    Namespace,
    Pod,
    /// Addresses of a Service.
    Addresses,
    /// The rest of a Service.
    Service,
    /// Endpoints of a Service.
    Endpoints,
    Slice,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    TcpRoute,
    VirtualService,
    DestinationRule,
    PolicyHttpRoute,
    ServiceProfile,
    TrafficSplit,
    RouteGroup,
    ServiceEntry,
    /// Everything of `linkerd.io`.
    Linkerd,
    /// Routes that do nothing on a Service.
    Effect,
    /// Services whose address another one has.
    Taken,
}

/// The problems of every part that has any.
#[derive(Debug, Default)]
pub(super) struct Found {
    parts: BTreeMap<(Part, Name), Vec<Arc<Problem>>>,
    all: Option<Arc<[Arc<Problem>]>>,
}

impl Found {
    /// Replaces the problems of a part. Those that are found again stay the same in memory.
    pub(super) fn set(&mut self, part: Part, name: &Name, problems: Problems) {
        let key = (part, name.clone());
        let former = self.parts.get(&key).map(Vec::as_slice).unwrap_or_default();
        if former.iter().map(AsRef::as_ref).eq(&problems.0) {
            return;
        }
        self.all = None;
        if problems.0.is_empty() {
            self.parts.remove(&key);
        } else {
            let problems = problems.0.into_iter().map(Arc::new).collect();
            self.parts.insert(key, problems);
        }
    }

    /// Replaces the problems of every part of a sort.
    pub(super) fn replace(&mut self, part: Part, mut present: BTreeMap<Name, Problems>) {
        let keys = self.parts.keys().filter(|(other, _)| *other == part);
        for (_, name) in keys {
            present.entry(name.clone()).or_default();
        }
        for (name, problems) in present {
            self.set(part, &name, problems);
        }
    }

    /// Every problem: the same in memory as long as nothing changes.
    pub(super) fn all(&mut self) -> Arc<[Arc<Problem>]> {
        let parts = &self.parts;
        let all = self
            .all
            .get_or_insert_with(|| parts.values().flatten().cloned().collect());
        Arc::clone(all)
    }
}
