//! A request that failed here: what is counted, and what the client is told.

use http::HeaderMap;

use crate::route::cors::Allowed;

use super::reply::{Reason, Reply};
use super::traffic::Ticket;

/// A request that is answered by the agent with a reason.
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// The entry in the counters, if the request had one already.
    pub(super) ticket: Option<Ticket>,
    /// What lets a browser's script of an allowed origin see the reason.
    headers: Option<Box<HeaderMap>>,
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            ticket: None,
            headers: None,
        }
    }
}

impl Failure {
    /// Of a request that has an entry.
    pub(super) fn counted(reason: Reason, ticket: Ticket) -> Self {
        Self {
            ticket: Some(ticket),
            ..reason.into()
        }
    }

    /// The answer.
    pub(super) fn response(self, grpc: bool) -> Reply {
        let mut response = self.reason.response(grpc);
        if let Some(headers) = self.headers {
            response.headers_mut().extend(*headers);
        }
        response
    }
}

/// What comes of a request, where CORS has let it go on.
pub(super) fn told(
    answered: Result<Reply, Failure>,
    allowed: Option<Allowed<'_>>,
) -> Result<Reply, Failure> {
    let Some(allowed) = allowed else {
        return answered;
    };
    match answered {
        Ok(mut response) => {
            allowed.tell(response.headers_mut());
            Ok(response)
        }
        Err(mut failure) => {
            allowed.tell(failure.headers.get_or_insert_default());
            Err(failure)
        }
    }
}
