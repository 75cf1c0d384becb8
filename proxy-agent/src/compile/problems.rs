//! Collects what is wrong, one line each.

use crate::model::{Problem, Severity};
use crate::objects::Located;

/// The problems found so far.
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

    /// An error that is found again for every object that it concerns: named once.
    pub(super) fn once(&mut self, at: &Located, field: String, reason: String) {
        let known =
            |problem: &Problem| problem.object.as_ref() == Some(&at.id) && problem.field == field;
        if !self.0.iter().any(known) {
            self.push(Severity::Error, at, field, reason);
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
