//! `cargo xtask measure`: figures that need a real cluster.

mod enrolment;

use anyhow::Result;

/// `cargo xtask measure`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Whether the first connection of a pod's first container is captured, over many pods.
    Enrolment(enrolment::Args),
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Enrolment(args) => enrolment::run(args),
    }
}
