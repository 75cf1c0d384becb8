//! The verbs that are not `run`: each does one thing, writes to stdout, and ends with an exit code.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use proxy_agent::bpf::preflight;
use proxy_agent::cli::{CheckArgs, ExplainArgs, StatusArgs, ValidateArgs};
use proxy_agent::{client, validate as offline};

/// `proxy-agent status`.
///
/// # Errors
///
/// When the agent cannot be asked.
pub(crate) fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(client::status(args, &mut io::stdout()))?;
    Ok(ExitCode::SUCCESS)
}

/// `proxy-agent explain`.
///
/// # Errors
///
/// When the agent cannot be asked, or cannot tell.
pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(client::explain(args, &mut io::stdout()))?;
    Ok(ExitCode::SUCCESS)
}

/// `proxy-agent check`: fails if one check does.
///
/// # Errors
///
/// When the findings cannot be written.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let checks = preflight::run(args.bpf_object.as_deref());
    client::checks(&checks, args.output, &mut io::stdout())?;
    Ok(exit_code(checks.iter().all(|check| check.ok)))
}

/// `proxy-agent validate`: fails if anything would not be in effect.
///
/// # Errors
///
/// When the findings cannot be written.
pub(crate) fn validate(args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let report = offline::validate(&args.paths);
    client::report(&report, args.output, &mut io::stdout())?;
    Ok(exit_code(!report.has_errors()))
}

fn exit_code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")
}
