//! Why a list or a watch ended, told by what is to be done about it.

use std::error::Error;
use std::time::Duration;

/// Why following a kind was interrupted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server no longer knows the version that was asked for: the kind is listed anew.
    #[error("the server no longer has the changes since the last one")]
    Expired,
    /// The agent lacks the right.
    #[error("{message}")]
    Forbidden {
        /// The server's words.
        message: String,
    },
    /// The kind is not there, or not yet again.
    #[error("{message}")]
    NotFound {
        /// The server's words.
        message: String,
    },
    /// The server refused or broke off.
    #[error("{}", root(.0))]
    Broken(#[source] kube::Error),
    /// Not a byte came, not even the bookmarks that come every minute.
    #[error("nothing was heard for {after:?}")]
    Silent {
        /// How long that was waited for.
        after: Duration,
    },
    /// The watch ended as soon as it began.
    #[error("the server ends every watch at once")]
    TooShort,
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            return Self::from(*status);
        }
        Self::Broken(error)
    }
}

impl From<kube::core::Status> for Failure {
    fn from(status: kube::core::Status) -> Self {
        let message = || status.message.clone();
        match status.code {
            410 => Self::Expired,
            403 => Self::Forbidden { message: message() },
            404 => Self::NotFound { message: message() },
            _ => Self::Broken(kube::Error::Api(Box::new(status))),
        }
    }
}

/// The innermost cause: the layers above it only say that a request failed.
pub(super) fn root(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn status(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("words", "Reason").with_code(code).boxed())
    }

    #[test]
    fn an_answer_is_told_by_what_is_to_be_done_about_it() {
        assert!(matches!(Failure::from(status(410)), Failure::Expired));
        assert!(matches!(
            Failure::from(status(403)),
            Failure::Forbidden { .. }
        ));
        assert!(matches!(
            Failure::from(status(404)),
            Failure::NotFound { .. }
        ));
        let other = Failure::from(status(500));
        assert_eq!(other.to_string(), "words (500)");
    }
}
