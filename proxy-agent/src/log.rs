//! Sets up the log: to stderr, as text or JSON, with the level of `PROXY_AGENT_LOG`.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Level, or levels by module: `debug`, `info,proxy_agent::capture=trace`.
pub const LEVEL_VARIABLE: &str = "PROXY_AGENT_LOG";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The variable cannot be read as levels.
    #[error(
        "{LEVEL_VARIABLE}=`{value}`: give a level (error, warn, info, debug, trace) or module=level, separated by commas"
    )]
    Level {
        /// The variable's value.
        value: String,
    },
    /// There is a log already.
    #[error("the log was set up twice")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts the log; once in a process.
///
/// # Errors
///
/// When the level cannot be read, or there is a log already: the caller exits with the message.
pub fn init(format: LogFormat) -> Result<(), Error> {
    let levels = env::var(LEVEL_VARIABLE).unwrap_or_default();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&levels)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(Error::Twice)
}

/// What is off unless it is asked for: the client of the API server has an error for each answer
/// that it does not like, for as long as the server is away. The source says it once.
const OFF: &str = "kube_client=off";

/// `info` where `levels` says nothing.
fn filter(levels: &str) -> Result<EnvFilter, Error> {
    let asked = if levels.is_empty() { "info" } else { levels };
    // Of two directives for one target the later one counts.
    let parsed = EnvFilter::builder().parse(format!("{OFF},{asked}"));
    parsed.map_err(|_unreadable| Error::Level {
        value: levels.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_info() {
        let filter = filter("").unwrap().to_string();
        assert!(filter.split(',').any(|part| part == "info"), "{filter}");
    }

    #[test]
    fn modules_may_have_levels_of_their_own() {
        let filter = filter("warn,proxy_agent::capture=debug")
            .unwrap()
            .to_string();
        assert!(filter.contains("proxy_agent::capture=debug") && filter.contains("warn"));
    }

    #[test]
    fn the_client_of_the_api_server_speaks_when_it_is_asked() {
        let text = |levels| filter(levels).unwrap().to_string();
        assert!(text("debug").contains("kube_client=off"));
        assert!(text("kube_client=debug").contains("kube_client=debug"));
    }

    #[test]
    fn a_bad_level_names_the_variable_and_what_is_accepted() {
        let error = filter("proxy_agent=loud").unwrap_err().to_string();
        assert!(
            error.contains("PROXY_AGENT_LOG") && error.contains("debug"),
            "{error}"
        );
    }
}
