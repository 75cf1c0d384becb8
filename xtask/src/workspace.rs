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

/// The cargo that runs this, or the one in PATH; without what it tells xtask about xtask's own package,
/// which a build script takes for a change (ring's does): all that uses it would be built again, each time.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root());
    let own = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(own) {
            command.env_remove(name);
        }
    }
    command
}

/// How programs are built.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BuildProfile {
    /// As tests use them.
    Debug,
    /// As they are shipped, and measured.
    Release,
}

impl BuildProfile {
    /// Where cargo puts what it builds so.
    pub(crate) fn folder(self) -> PathBuf {
        target(match self {
            Self::Debug => "debug",
            Self::Release => "release",
        })
    }
}

/// Builds the clients and servers of tests and measurements.
pub(crate) fn build_harness(profile: BuildProfile) -> Result<()> {
    let flags: &[&str] = match profile {
        BuildProfile::Debug => &[],
        BuildProfile::Release => &["--release"],
    };
    let build = ["build", "--package", "proxy-e2e"];
    run(cargo().args(build).args(flags))
}

/// Runs a command to its end; its failure is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {}", shown(command)))?;
    ensure!(status.success(), "{} failed: {status}", shown(command));
    Ok(())
}

/// The command as one would type it: without the variables that it does not hand on.
pub(crate) fn shown(command: &Command) -> String {
    let directory = command.get_current_dir();
    let directory = directory.map(|directory| format!("cd {directory:?} && "));
    let set = command.get_envs().filter_map(|(name, value)| {
        let value = value?;
        Some(format!("{}={value:?} ", name.display()))
    });
    let words = command.get_args().map(|word| format!(" {word:?}"));
    let program = format!("{:?}", command.get_program());
    let parts = directory.into_iter().chain(set);
    parts.chain([program]).chain(words).collect()
}

/// Runs a command and returns what it printed, trimmed; `None` if it fails or is not there.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_with_what_it_is_given_alone() {
        let mut command = Command::new("cargo");
        command.args(["test", "a b"]).env("X", "1").env_remove("Y");
        command.current_dir("/tmp");
        let expected = r#"cd "/tmp" && X="1" "cargo" "test" "a b""#;
        assert_eq!(shown(&command), expected);
    }
}
