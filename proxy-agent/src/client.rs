//! The verbs that ask a running agent: `status` and `explain`. They read the admin socket and
//! write what they get; they know nothing that the agent did not say.

mod ask;
mod explanation;
mod findings;
mod overview;
mod table;
mod units;
mod views;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::ExplainQuery;
use crate::cli::{ExplainArgs, OutputFormat, StatusArgs, StatusView};
use crate::status::{Explanation, Status};

pub use findings::{checks, report};

/// Time between two pictures of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Clears the terminal and goes to its first line (ECMA-48 ED and CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Why the agent's state could not be shown. Each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket is not there.
    #[error("no agent at {}: the socket is not there; start `proxy-agent run`, or give the agent's --admin-socket", path.display())]
    Absent {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is there and nobody listens.
    #[error("no agent at {}: the one that made the socket is gone; look into its log and start it again", path.display())]
    Gone {
        /// The socket.
        path: PathBuf,
    },
    /// The socket may not be used.
    #[error("cannot open {}; run this as the agent's user (root)", path.display())]
    Open {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No whole answer came.
    #[error("the agent at {} did not answer {what}; look into its log", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        what: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The agent refused.
    #[error("the agent says: {reason}")]
    Refused {
        /// In the agent's words.
        reason: String,
    },
    /// The answer has another form than this program knows.
    #[error("cannot read the agent's answer; are the agent and this program of one version?")]
    Form(#[source] serde_json::Error),
    /// The answer cannot be written in the format asked for.
    #[error("cannot write {format}")]
    Format {
        /// The format.
        format: &'static str,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The output is closed or full.
    #[error("cannot write to the output")]
    Output(#[source] io::Error),
}

/// Runs `proxy-agent status`, writing to `out`.
///
/// # Errors
///
/// When the agent cannot be asked; with `--watch` only the first time, later it is shown.
pub async fn status(args: &StatusArgs, out: &mut dyn Write) -> Result<(), Error> {
    let mut picture = status_text(args).await?;
    if !args.watch {
        return write(out, &picture);
    }
    loop {
        let clear = match args.output {
            // In a pipe or a file the escape sequence is noise.
            OutputFormat::Table if io::stdout().is_terminal() => CLEAR,
            OutputFormat::Table | OutputFormat::Json | OutputFormat::Yaml => "",
        };
        write(out, &format!("{clear}{picture}"))?;
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => return pressed.map_err(Error::Output),
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        picture = match status_text(args).await {
            Ok(text) => text,
            Err(error) => format!("{error}\n"),
        };
    }
}

/// Runs `proxy-agent explain`, writing to `out`.
///
/// # Errors
///
/// When the agent cannot be asked, or cannot tell: e.g. it knows no such pod.
pub async fn explain(args: &ExplainArgs, out: &mut dyn Write) -> Result<(), Error> {
    let headers = args.headers.iter().cloned();
    let query = ExplainQuery {
        namespace: args.from.namespace.clone(),
        pod: args.from.name.clone(),
        method: args.method.clone(),
        url: args.url.clone(),
        headers: headers.map(|header| (header.name, header.value)).collect(),
    };
    let path = format!("/explain?{}", query.to_query());
    let answer = ask::get(&args.admin_socket, &path).await?;
    let text = show::<Explanation>(&answer, args.output, explanation::text)?;
    write(out, &text)
}

/// One picture of the state.
async fn status_text(args: &StatusArgs) -> Result<String, Error> {
    let path = match args.view {
        None => "/status",
        Some(StatusView::Pods) => "/status/pods",
        Some(StatusView::Services) => "/status/services",
        Some(StatusView::Routes) => "/status/routes",
        Some(StatusView::Endpoints) => "/status/endpoints",
        Some(StatusView::Bpf) => "/status/bpf",
    };
    let answer = ask::get(&args.admin_socket, path).await?;
    match args.view {
        None => show::<Status>(&answer, args.output, overview::text),
        Some(StatusView::Pods) => show(&answer, args.output, |it: &Vec<_>| views::pods(it)),
        Some(StatusView::Services) => show(&answer, args.output, |it: &Vec<_>| views::services(it)),
        Some(StatusView::Routes) => show(&answer, args.output, |it: &Vec<_>| views::routes(it)),
        Some(StatusView::Endpoints) => {
            show(&answer, args.output, |it: &Vec<_>| views::endpoints(it))
        }
        Some(StatusView::Bpf) => show(&answer, args.output, views::bpf),
    }
}

/// Reads an answer and writes it in the format asked for.
fn show<T: DeserializeOwned + Serialize>(
    answer: &str,
    format: OutputFormat,
    table: impl Fn(&T) -> String,
) -> Result<String, Error> {
    let value: T = serde_json::from_str(answer).map_err(Error::Form)?;
    match format {
        OutputFormat::Table => Ok(table(&value)),
        OutputFormat::Json => json(&value),
        OutputFormat::Yaml => serde_yaml_ng::to_string(&value).map_err(|source| Error::Format {
            format: "YAML",
            source: source.into(),
        }),
    }
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n")
        .map_err(|source| Error::Format {
            format: "JSON",
            source: source.into(),
        })
}

fn write(out: &mut dyn Write, text: &str) -> Result<(), Error> {
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::Output)
}

#[cfg(test)]
mod tests;
