//! The `proxy-agent` binary: reads the command line and runs one verb.

mod verbs;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use proxy_agent::cli::{Cli, RunArgs, Verb};
use proxy_agent::{agent, log, net};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            // The last resort if even stderr is closed is the exit code.
            let _ = writeln!(io::stderr(), "proxy-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(args) => serve(*args),
        Verb::Status(args) => verbs::status(&args),
        Verb::Explain(args) => verbs::explain(&args),
        Verb::Validate(args) => verbs::validate(&args),
        Verb::Check(args) => verbs::check(&args),
    }
}

fn serve(args: RunArgs) -> anyhow::Result<ExitCode> {
    log::init(args.log_format)?;
    // The control runtime: sources, capture and admin. The data path has threads of its own, so
    // that a storm here cannot delay a request.
    let control = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        // For reading files and maps. They end when idle: work that comes by the second would
        // keep any number of them alive by turns.
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_millis(500))
        .on_thread_start(net::yield_to_others)
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    control.block_on(agent::run(args))?;
    Ok(ExitCode::SUCCESS)
}
