//! The `proxy-agent` binary: reads the command line and runs one verb.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use proxy_agent::cli::{Cli, Verb};
use proxy_agent::{agent, verbs};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    match verb(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the log may not be set up")]
            {
                eprintln!("proxy-agent: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn verb(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Run(args) => {
            proxy_agent::log::init(args.log_format)?;
            // The control runtime: sources, capture and admin. The data path has threads of its
            // own, so that a storm here cannot delay a request.
            let control = Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("control")
                .enable_all()
                .build()
                .context("no control runtime")?;
            control.block_on(agent::run(*args))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Status(args) => verbs::status(&args),
        Verb::Explain(args) => verbs::explain(&args),
        Verb::Validate(args) => verbs::validate(&args),
        Verb::Check(args) => verbs::check(&args),
    }
}
