//! `cargo xtask demo`: a small node, captured traffic on it, and what the agent says of it.

use anyhow::Result;

/// `cargo xtask demo`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the verb.
pub(crate) fn run(_: &Args) -> Result<()> {
    Ok(())
}
