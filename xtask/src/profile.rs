//! `cargo xtask profile`: records what release builds of the agent are optimised by.
//!
//! The compiler counts how often each branch is taken while the agent serves the bench's loads, and
//! later builds lay the code out, and choose what to inline, by these counts (LLVM's instrumentation
//! profiles). The record is a file of the repository, so that a release build needs no root, no kernel
//! and no load. It ages well: what it knows nothing of, since the code or the compiler is another one,
//! is built as without it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::e2e::missing_privilege;
use crate::workspace::{cargo, recorded_profile, root, run as run_command, target, with_flag};
use crate::{bench, build_ebpf, setup};

/// `cargo xtask profile`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the verb.
pub(crate) fn run(_: &Args) -> Result<()> {
    if let Some(missing) = missing_privilege() {
        anyhow::bail!("no profile can be recorded: this machine lacks {missing}");
    }
    setup::run(&setup::Args::default())?;
    build_ebpf::build()?;
    let folder = target("profile");
    let counts = folder.join("counts");
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--package", "proxy-agent"]);
    build.arg("--target-dir").arg(&folder);
    let flag = format!("-Cprofile-generate={}", counts.display());
    run_command(with_flag(&mut build, &flag))?;
    run_command(cargo().args(["build", "--release", "--package", "proxy-e2e"]))?;
    run_command(cargo().args(["build", "--package", "proxy-e2e"]))?;

    // What was counted before: by another build, by macros and build scripts of this one.
    if counts.exists() {
        fs::remove_dir_all(&counts).with_context(|| format!("remove {}", counts.display()))?;
    }
    bench::train(folder.join("release/proxy-agent"))?;

    let files = fs::read_dir(&counts).context("the agent has written no counts")?;
    let files: Vec<_> = files.flatten().map(|file| file.path()).collect();
    ensure!(!files.is_empty(), "no counts in {}", counts.display());
    let merge = setup::llvm_prefix().join("bin/llvm-profdata");
    let recorded = recorded_profile();
    // Without what never ran, most of it.
    run_command(
        Command::new(merge)
            .args(["merge", "--sparse", "--output"])
            .arg(&recorded)
            .args(files),
    )?;
    is_readable(&recorded)?;
    println!("profile: {}", recorded.display());
    Ok(())
}

/// Requires that the pinned compiler can read a record: it would build without it, and warn.
fn is_readable(recorded: &Path) -> Result<()> {
    ensure!(recorded.exists(), "{} is missing", recorded.display());
    let folder = target("profile");
    fs::create_dir_all(&folder).context("create target/profile")?;
    let mut command = Command::new("rustc");
    command
        .current_dir(root())
        .args(["--crate-type", "lib", "--crate-name", "nothing", "-O"])
        .arg(format!("-Cprofile-use={}", recorded.display()))
        .arg("--out-dir")
        .arg(&folder)
        .arg("/dev/null");
    let output = command.output().context("start rustc")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.trim().is_empty(),
        "{}: {said}; `cargo xtask profile` records it anew",
        recorded.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_none_is_told() {
        is_readable(&recorded_profile()).unwrap();
        let error = is_readable(&root().join("README.md")).unwrap_err();
        assert!(error.to_string().contains("bad magic"), "{error}");
        assert!(is_readable(Path::new("/nonexistent")).is_err());
    }
}
