//! Release builds of the agent, and `cargo xtask profile`, which records what they are optimised by.
//!
//! The compiler counts how often each branch is taken while the agent serves the bench's loads, and
//! later builds lay the code out, and choose what to inline, by these counts (LLVM's instrumentation
//! profiles). The record is a file of the repository, so that a release build needs no root, no kernel
//! and no load. It knows functions by the compiler's names for them, which change with the compiler, the
//! target, `Cargo.lock`, the features and the version: what it does not know is built as without it.

use std::collections::HashSet;
use std::env::var;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::e2e::missing_privilege;
use crate::workspace::{cargo, root, run as run_command, target};
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
    let mut build = release([format!("-Cprofile-generate={}", counts.display())]);
    run_command(build.arg("--target-dir").arg(&folder))?;

    // What was counted before: by another build, by macros and build scripts of this one.
    if counts.exists() {
        fs::remove_dir_all(&counts).with_context(|| format!("remove {}", counts.display()))?;
    }
    bench::train(folder.join("release/proxy-agent"))?;

    let files = fs::read_dir(&counts).context("the agent has written no counts")?;
    let files: Vec<_> = files.flatten().map(|file| file.path()).collect();
    ensure!(!files.is_empty(), "no counts in {}", counts.display());
    // Without what never ran, most of it.
    run_command(
        llvm("llvm-profdata")
            .args(["merge", "--sparse", "--output"])
            .arg(record())
            .args(files),
    )?;
    is_readable(&record())?;
    println!("profile: {}", record().display());
    Ok(())
}

/// Builds the agent as it is shipped and measured, into target/release.
pub(crate) fn build() -> Result<()> {
    is_readable(&record())?;
    run_command(&mut release(by(&record())))?;
    let known = known(&record(), &target("release/proxy-agent"))?;
    if known < LEAST_KNOWN {
        println!(
            "warning: the profile knows {known} % of the functions by the names that they have in this build, so that it \
             is hardly optimised by it; `cargo xtask profile` records it anew"
        );
    }
    Ok(())
}

/// Percent of the recorded functions that a build has under the same names. The others were inlined, a
/// third of them in the build that a record was made of.
const LEAST_KNOWN: usize = 40;

fn record() -> PathBuf {
    root().join("proxy-agent/release.profdata")
}

fn llvm(program: &str) -> Command {
    Command::new(setup::llvm_prefix().join("bin").join(program))
}

/// Flags of a build by a record. That single functions have changed since is no news.
fn by(record: &Path) -> [String; 2] {
    let quiet = "-Cllvm-args=-no-pgo-warn-mismatch".to_owned();
    [format!("-Cprofile-use={}", record.display()), quiet]
}

/// A release build with more flags for the compiler. Flags of the environment stay; those of
/// cargo's configuration give way to any in the environment, as cargo has it.
fn release(more: impl IntoIterator<Item = String>) -> Command {
    let mut command = cargo();
    command.args(["build", "--release", "--package", "proxy-agent"]);
    let flags = flags(var("CARGO_ENCODED_RUSTFLAGS").ok(), var("RUSTFLAGS").ok());
    let flags: Vec<_> = flags.into_iter().chain(more).collect();
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join(SEPARATOR));
    command
}

/// Between flags that may have spaces (cargo's book, "Environment Variables").
const SEPARATOR: &str = "\u{1f}";

/// As cargo reads them: the encoded ones, else the plain ones.
fn flags(encoded: Option<String>, plain: Option<String>) -> Vec<String> {
    let (text, separator) = match encoded {
        Some(encoded) => (encoded, SEPARATOR),
        None => (plain.unwrap_or_default(), " "),
    };
    let flags = text.split(separator).filter(|flag| !flag.is_empty());
    flags.map(str::to_owned).collect()
}

/// Requires that the pinned compiler can read a record: it would build without it, and warn.
fn is_readable(record: &Path) -> Result<()> {
    ensure!(record.exists(), "{} is missing", record.display());
    let folder = target("profile");
    fs::create_dir_all(&folder).context("create target/profile")?;
    let mut command = Command::new("rustc");
    command
        .current_dir(root())
        .args(["--crate-type", "lib", "--crate-name", "nothing", "-O"])
        .args(by(record))
        .arg("--out-dir")
        .arg(&folder)
        .arg("/dev/null");
    let output = command.output().context("start rustc")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.trim().is_empty(),
        "{}: {said}; `cargo xtask profile` records it anew",
        record.display()
    );
    Ok(())
}

/// Percent of the recorded functions that `binary` has by name.
fn known(record: &Path, binary: &Path) -> Result<usize> {
    let mut show = llvm("llvm-profdata");
    let recorded = lines(show.args(["show", "--all-functions"]).arg(record))?;
    let recorded: HashSet<&str> = recorded.lines().filter_map(function).collect();
    let mut list = llvm("llvm-nm");
    let symbols = lines(list.arg("--format=just-symbols").arg(binary))?;
    // What thin LTO shares between units has a number behind its name.
    let symbols = symbols.lines().map(|symbol| symbol.split(".llvm.").next());
    let symbols: HashSet<&str> = symbols.flatten().collect();
    let here = recorded.intersection(&symbols).count();
    Ok(here * 100 / recorded.len().max(1))
}

/// The name in a line of `llvm-profdata show`: `  NAME:`, or `  UNIT;NAME:` of what only its unit sees.
fn function(line: &str) -> Option<&str> {
    let name = line.strip_prefix("  ")?.strip_suffix(':')?;
    let name = name.rsplit(';').next()?;
    name.starts_with('_').then_some(name)
}

fn lines(command: &mut Command) -> Result<String> {
    let output = command.output().context("start LLVM's tools")?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).context("names in UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_none_is_told() {
        is_readable(&record()).unwrap();
        let error = is_readable(&root().join("README.md")).unwrap_err();
        assert!(error.to_string().contains("bad magic"), "{error}");
        assert!(is_readable(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn a_program_that_is_not_the_recorded_one_is_told() {
        let other = std::env::current_exe().unwrap();
        assert!(known(&record(), &other).unwrap() < LEAST_KNOWN);
    }

    #[test]
    fn functions_are_named_with_and_without_their_units() {
        assert_eq!(function("  _ZN1a1bE:"), Some("_ZN1a1bE"));
        assert_eq!(function("  a.1-cgu.08;_ZN1a1bE:"), Some("_ZN1a1bE"));
        assert_eq!(function("    Hash: 0x04c1a901fde6ccb4"), None);
        assert_eq!(function("Counters:"), None);
    }

    #[test]
    fn flags_of_the_environment_stay() {
        let plain = || Some("-Ca  -Cb".to_owned());
        assert_eq!(flags(None, plain()), ["-Ca", "-Cb"]);
        assert_eq!(
            flags(Some("-Cc d\u{1f}-Ce".to_owned()), plain()),
            ["-Cc d", "-Ce"]
        );
        assert!(flags(None, None).is_empty());
    }
}
