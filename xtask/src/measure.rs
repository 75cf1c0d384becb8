//! `cargo xtask measure`: figures beside the bench's, most of them of a real cluster.

mod enrolment;
mod scale;
mod transport;

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
    /// What a large configuration that changes costs the agent, and its requests.
    Scale(scale::Args),
    /// What is left of a request's time when TCP is taken out of it: the floor of acceleration.
    Transport(transport::Args),
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Enrolment(args) => enrolment::run(args),
        What::Scale(args) => scale::run(args),
        What::Transport(args) => transport::run(args),
    }
}
