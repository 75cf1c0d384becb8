//! What DNS says of a name, as an object among the others.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Located, Object};
use crate::model::{ObjectId, Place};

/// Addresses of a name. No user writes it: the agent's own source holds one for each name that
/// configuration needs resolved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolution {
    /// In order, each once.
    pub addresses: Vec<IpAddr>,
}

impl Resolution {
    /// The object for a name.
    pub fn located(name: &Arc<str>, place: Place, addresses: Vec<IpAddr>) -> Located {
        Located {
            id: ObjectId {
                group: "".into(),
                kind: "Resolution".into(),
                namespace: "".into(),
                name: Arc::clone(name),
            },
            place,
            object: Object::Resolution(Box::new(Self { addresses })),
            unread: Vec::new(),
        }
    }
}
