//! What the conditions of a route say, gathered while it is compiled.

use gateway_api::apis::experimental::httproutes::{HttpRoute, HttpRouteParentRefs};

use crate::compile::index::At;
use crate::model::{Condition, ConditionReason, ParentRef, RouteParent};

/// Bytes of a condition's message from which nothing is added: the API takes 32768.
const MAX_MESSAGE_BYTES: usize = 1_024;

/// The first fault of each sort decides the reason; the user's message names each.
#[derive(Debug, Default)]
pub(super) struct Findings {
    unaccepted: Option<(ConditionReason, String)>,
    unresolved: Option<(ConditionReason, String)>,
}

impl Findings {
    /// The value at `field` is not carried out.
    pub(super) fn unaccepted(&mut self, why: ConditionReason, field: &str, reason: &str) {
        note(&mut self.unaccepted, why, field, reason);
    }

    /// The rule at `field` holds what cannot be read: the reader named it.
    pub(super) fn unread(&mut self, field: &str) {
        let reason = "holds a field or value that cannot be read; it fails for what it matches";
        self.unaccepted(ConditionReason::UnsupportedValue, field, reason);
    }

    /// The reference at `field` leads nowhere.
    pub(super) fn unresolved(&mut self, why: ConditionReason, field: &str, reason: &str) {
        note(&mut self.unresolved, why, field, reason);
    }

    /// The conditions at one parent, which is attached to unless `refused` says why not.
    pub(super) fn at_parent(
        &self,
        at: &At<'_, HttpRoute>,
        parent: &HttpRouteParentRefs,
        refused: Option<String>,
    ) -> RouteParent {
        let refused = refused.map(|reason| (ConditionReason::NoMatchingParent, reason));
        let unaccepted = refused.or_else(|| self.unaccepted.clone());
        RouteParent {
            route: at.located.id.clone(),
            uid: at.object.metadata.uid.as_deref().unwrap_or_default().into(),
            generation: at.object.metadata.generation.unwrap_or(0),
            parent: ParentRef {
                group: parent.group.clone(),
                kind: parent.kind.clone(),
                namespace: parent.namespace.clone(),
                name: parent.name.clone(),
                section_name: parent.section_name.clone(),
                port: parent.port,
            },
            accepted: condition(unaccepted, ConditionReason::Accepted),
            resolved_refs: condition(self.unresolved.clone(), ConditionReason::ResolvedRefs),
        }
    }
}

fn note(
    noted: &mut Option<(ConditionReason, String)>,
    why: ConditionReason,
    field: &str,
    reason: &str,
) {
    match noted {
        None => *noted = Some((why, format!("{field}: {reason}"))),
        Some((_, message)) if message.len() > MAX_MESSAGE_BYTES => {}
        Some((_, message)) => message.push_str(&format!("; {field}: {reason}")),
    }
}

fn condition(fault: Option<(ConditionReason, String)>, good: ConditionReason) -> Condition {
    fault.map_or_else(
        || Condition::holds(good),
        |(why, message)| Condition::fails(why, message),
    )
}
