//! Where the agent is between its start and its end, for `status` and `/readyz`.

use std::sync::{Arc, Mutex, PoisonError};

/// What the agent is doing. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<Mutex<State>>);

/// The phases.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum State {
    /// Serving, or on the way to it.
    #[default]
    Serving,
    /// Another agent serves the node, named here, and this one is about to.
    TakingOver(String),
    /// Another agent serves the node, named here, since this one handed it over.
    HandedOver(String),
    /// Leaving; nobody serves the node then.
    Draining,
}

impl Phase {
    pub(super) fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(super) fn get(&self) -> State {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }
}

impl State {
    /// Why the agent does not serve the node; `None` if it should.
    pub(super) fn reason(&self) -> Option<String> {
        match self {
            Self::Serving => None,
            Self::TakingOver(holder) => Some(format!("taking over from {holder}")),
            Self::HandedOver(successor) => Some(format!("handed over to {successor}")),
            Self::Draining => {
                Some("draining: new connections take the node's ordinary path".to_owned())
            }
        }
    }

    /// The word for `overview.state`; `None` while serving, when other things decide.
    pub(super) const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Serving => None,
            Self::TakingOver(_) => Some("taking-over"),
            Self::HandedOver(_) => Some("handed-over"),
            Self::Draining => Some("draining"),
        }
    }
}
