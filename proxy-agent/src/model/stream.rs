//! Rules for connections that are routed without a look into what they carry, as plain data.
//! `route/stream.rs` finds in them, `compile/` makes them.

use std::sync::Arc;

use super::{Destination, ObjectId, SourceMatch, WeightedDestination};

/// Rules in the order in which they are tried: the first match decides, none closes the connection.
#[derive(Clone, Debug)]
pub struct StreamTable {
    /// Names of the objects that the rules come from, for `status` and `explain`.
    pub origin: Arc<str>,
    /// Which of a listener's connections are meant.
    pub scope: StreamScope,
    /// Compiled rules.
    pub rules: Vec<StreamRule>,
}

impl StreamTable {
    /// Where every connection goes, whoever makes it and however it begins. `None` where that makes
    /// a difference, or where a share leads nowhere: whose it is, the agent tells.
    pub fn for_everybody(&self) -> Option<&Arc<[WeightedDestination]>> {
        let first = self.rules.first()?;
        let plain = first.names.is_none() && first.source.is_none();
        let mut shares = first.destinations.iter().filter(|one| one.weight > 0);
        let any = shares.clone().next().is_some();
        let sound = any && shares.all(|one| matches!(one.destination, Destination::Cluster(_)));
        (plain && sound).then_some(&first.destinations)
    }
}

/// Which connections a [`StreamTable`] is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamScope {
    /// All of them, HTTP or not.
    Every,
    /// Those that turn out not to be HTTP on a listener that serves it; else all of them.
    NotHttp,
}

/// One condition set and where its connections go.
#[derive(Clone, Debug)]
pub struct StreamRule {
    /// The object that the rule stands in; `None` for what follows from no object.
    pub object: Option<Arc<ObjectId>>,
    /// Field path of the rule in its object.
    pub field: Arc<str>,
    /// Server names, one of which the ClientHello must ask for; `None` for TLS and anything else.
    pub names: Option<Arc<[ServerName]>>,
    /// Condition on the client; most rules have none.
    pub source: Option<Box<SourceMatch>>,
    /// Where to, by weight; nowhere if none has a share.
    pub destinations: Arc<[WeightedDestination]>,
}

/// A condition on the server name of a ClientHello (RFC 6066, section 3). Texts are lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerName {
    /// Whatever it asks for, even nothing.
    Any,
    /// This one.
    Exact(Arc<str>),
    /// Any below: `.example.org` for `*.example.org`.
    Below(Arc<str>),
}
