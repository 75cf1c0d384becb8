//! Where things are in the project, and running commands there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The agent and what tests it. Chosen together, whichever is meant: for each choice of packages
/// cargo builds what they use with other features.
pub(crate) const AGENT_AND_TESTS: [&str; 4] =
    ["--package", "proxy-agent", "--package", "proxy-e2e"];

/// The directory that holds the workspace's Cargo.toml.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// A path below target/.
pub(crate) fn target(relative: &str) -> PathBuf {
    root().join("target").join(relative)
}

/// The cargo that runs this, or the one in PATH.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root());
    command
}

/// Runs a command to its end; its failure is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// Runs a command and returns what it printed, trimmed; `None` if it fails or is not there.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
