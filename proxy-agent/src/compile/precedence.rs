//! One Service, several dialects: which objects decide for which clients, and which do not.

use std::sync::Arc;

use super::attach::{Attachment, Dialect};
use crate::model::{ObjectId, Shadowed};

/// Whose clients a rank is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Of {
    /// Those of one namespace, for which alone the object is.
    Consumer,
    /// Everybody.
    Producer,
}

/// The ranks, the first that has anything decides. Gateway API's routes of consumers stand before
/// all of producers' (GEP-1426); Linkerd's and Istio's know no such thing between dialects.
const RANKS: [(&[Dialect], Of); 10] = [
    (&[Dialect::GrpcRoute], Of::Consumer),
    (&[Dialect::HttpRoute], Of::Consumer),
    (&[Dialect::GrpcRoute], Of::Producer),
    (&[Dialect::HttpRoute], Of::Producer),
    (&[Dialect::PolicyHttpRoute], Of::Consumer),
    (&[Dialect::PolicyHttpRoute], Of::Producer),
    (&[Dialect::VirtualService], Of::Consumer),
    (&[Dialect::VirtualService], Of::Producer),
    (&[Dialect::ServiceProfile], Of::Consumer),
    (
        &[Dialect::ServiceProfile, Dialect::TrafficSplit],
        Of::Producer,
    ),
];

/// What decides for some clients.
#[derive(Clone, Debug)]
pub(super) struct Decision<'a> {
    /// Of what dialect.
    pub dialect: Dialect,
    /// Routes of one dialect that are merged, or the one that counts.
    pub routes: Vec<&'a Attachment>,
    /// The split that a profile without destinations of its own leaves in force.
    pub split: Option<&'a Attachment>,
    /// Whether it is for clients of one namespace alone.
    pub own: bool,
}

impl Decision<'_> {
    fn includes(&self, one: &Attachment) -> bool {
        let mut all = self.routes.iter().chain(&self.split);
        all.any(|other| std::ptr::eq(*other, one))
    }
}

/// What decides for the clients of a namespace, or for all others. `attached` are those for one
/// port, in the order of precedence within a dialect.
pub(super) fn decide<'a>(
    attached: &[&'a Attachment],
    clients: Option<&Arc<str>>,
) -> Option<Decision<'a>> {
    let of = |dialect: Dialect, rank: Of| -> Vec<&'a Attachment> {
        let here = attached.iter().copied().filter(|one| {
            let visible = match rank {
                Of::Consumer => clients.is_some() && one.clients.as_ref() == clients,
                Of::Producer => one.clients.is_none(),
            };
            visible && one.dialect == dialect
        });
        here.collect()
    };
    for (dialects, rank) in RANKS {
        for dialect in dialects {
            let mut routes = of(*dialect, rank);
            if routes.is_empty() {
                continue;
            }
            if !dialect.is_merged() {
                routes.truncate(1);
            }
            let open = *dialect == Dialect::ServiceProfile && !routes[0].profile.overrides;
            let split = open.then(|| of(Dialect::TrafficSplit, Of::Producer));
            return Some(Decision {
                dialect: *dialect,
                routes,
                split: split.and_then(|splits| splits.first().copied()),
                own: rank == Of::Consumer,
            });
        }
    }
    None
}

/// The routes for a port that would apply if others did not stand before them.
pub(super) fn shadowed(attached: &[&Attachment]) -> Vec<Shadowed> {
    let shadowed = attached.iter().filter_map(|one| {
        Some(Shadowed {
            object: one.located.id.clone(),
            by: shadower(one, attached)?,
            clients: one.clients.clone(),
        })
    });
    shadowed.collect()
}

/// The object that decides in place of `one`, if it does not decide itself.
pub(super) fn shadower(one: &Attachment, attached: &[&Attachment]) -> Option<ObjectId> {
    let decision = decide(attached, one.clients.as_ref())?;
    let first = decision.routes.first().filter(|_| !decision.includes(one));
    first.map(|first| first.located.id.clone())
}
