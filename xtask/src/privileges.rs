//! `cargo xtask privileges`: what the chart grants is what the agent needs, tried on a real cluster by
//! taking each grant away. The test says what fails without it.

use anyhow::{Result, bail};

use crate::e2e::{Outcome, missing_privilege};
use crate::image;
use crate::setup;
use crate::workspace::{AGENT_AND_TESTS, BuildProfile, cargo, run as run_command};

/// `cargo xtask privileges`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {}

/// Runs the verb.
pub(crate) fn run(_: &Args) -> Result<()> {
    if let Outcome::Skipped(missing) = tests()? {
        println!("privileges: SKIPPED, this machine lacks {missing}");
    }
    Ok(())
}

/// Runs the test, or says why it cannot; in CI, what is missing is a failure.
pub(crate) fn tests() -> Result<Outcome> {
    if let Some(missing) = missing_privilege() {
        if std::env::var_os("CI").is_some() {
            bail!("no cluster can be made: this machine lacks {missing}");
        }
        return Ok(Outcome::Skipped(missing));
    }
    setup::cluster()?;
    setup::toolchain()?;
    let image = image::build(BuildProfile::Debug)?;
    let only = [
        "--test",
        "cluster_privileges",
        "--",
        "--ignored",
        "--nocapture",
    ];
    let mut test = cargo();
    test.arg("test").args(AGENT_AND_TESTS).args(only);
    test.env("PROXY_AGENT_IMAGE", image)
        .env("RUST_BACKTRACE", "0");
    run_command(&mut test)?;
    Ok(Outcome::Passed)
}
