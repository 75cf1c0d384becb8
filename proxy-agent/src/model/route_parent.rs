//! What became of a Gateway API route at one of its parents, in the words of its API.

use std::sync::Arc;

use super::ObjectId;

/// One route at one Service that it names as its parent: what `status.parents` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteParent {
    /// The route.
    pub route: ObjectId,
    /// `metadata.uid` of the route; empty where it has none (manifests). A route that was made anew
    /// is another one, whatever it says.
    pub uid: Arc<str>,
    /// `metadata.generation` of the route that was compiled; 0 where it has none (manifests).
    pub generation: i64,
    /// The parent as the route writes it.
    pub parent: ParentRef,
    /// Whether the route is in force there as it stands.
    pub accepted: Condition,
    /// Whether all of its references lead to something.
    pub resolved_refs: Condition,
}

/// An entry of `spec.parentRefs`, with nothing filled in that the route leaves out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParentRef {
    /// API group, empty for the core group.
    pub group: Option<String>,
    /// Kind.
    pub kind: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// `sectionName`.
    pub section_name: Option<String>,
    /// Port, host byte order.
    pub port: Option<i32>,
}

/// One condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    /// Whether it holds.
    pub status: bool,
    /// Why, or why not.
    pub reason: ConditionReason,
    /// For the user: field path and reason; empty when it holds.
    pub message: String,
}

impl Condition {
    /// A condition that holds.
    pub const fn holds(reason: ConditionReason) -> Self {
        Self {
            status: true,
            reason,
            message: String::new(),
        }
    }

    /// A condition that does not.
    pub const fn fails(reason: ConditionReason, message: String) -> Self {
        Self {
            status: false,
            reason,
            message,
        }
    }
}

/// Reasons of the conditions (RouteConditionReason of Gateway API's v1 reference).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConditionReason {
    /// `Accepted` holds.
    Accepted,
    /// `Accepted`: no such Service, or no such port of it.
    NoMatchingParent,
    /// `Accepted`: a value that is not understood or not supported.
    UnsupportedValue,
    /// `Accepted`: filters that exclude each other.
    IncompatibleFilters,
    /// `ResolvedRefs` holds.
    ResolvedRefs,
    /// `ResolvedRefs`: no such Service, or no such port of it.
    BackendNotFound,
    /// `ResolvedRefs`: a kind that cannot be a destination.
    InvalidKind,
    /// `ResolvedRefs`: another namespace that no ReferenceGrant opens.
    RefNotPermitted,
}

impl ConditionReason {
    /// As in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::NoMatchingParent => "NoMatchingParent",
            Self::UnsupportedValue => "UnsupportedValue",
            Self::IncompatibleFilters => "IncompatibleFilters",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::BackendNotFound => "BackendNotFound",
            Self::InvalidKind => "InvalidKind",
            Self::RefNotPermitted => "RefNotPermitted",
        }
    }
}
