//! x
use anyhow::Result;
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(super) fn run(_: &Args) -> Result<()> {
    Ok(())
}
