//! `cargo xtask fuzz`: the fuzz targets of `proxy-agent/fuzz`, with libFuzzer.
//!
//! They are built by the ordinary compiler, in the ordinary directory: only the crates of this
//! workspace are instrumented, all others are those of every other build. No sanitizer: it would need
//! a standard library of its own, and the code that is fuzzed has no `unsafe`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup;
use crate::workspace::{cargo, root, run as run_command, target};

/// The compiler of a C++ program: libFuzzer itself.
const COMPILER: &[&str] = &["g++", "libc6-dev"];

/// A fuzz target.
struct Target {
    name: &'static str,
    /// Longest input, bytes.
    max_len: usize,
    /// Further inputs to begin with, below the workspace.
    seeds: &'static [&'static str],
}

const TARGETS: &[Target] = &[
    Target {
        name: "greetings",
        max_len: 4096,
        seeds: &[],
    },
    Target {
        name: "manifests",
        max_len: 4096,
        seeds: &[
            "proxy-agent/tests/routing/scenes",
            "examples/source-document",
        ],
    },
    Target {
        name: "messages",
        max_len: 1024,
        seeds: &[],
    },
    Target {
        name: "paths",
        max_len: 256,
        seeds: &[],
    },
    Target {
        name: "requests",
        max_len: 1024,
        seeds: &[],
    },
    Target {
        name: "responses",
        max_len: 1024,
        seeds: &[],
    },
];

/// `cargo xtask fuzz`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long each target runs.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Which targets: greetings, manifests, messages, paths, requests, responses; all of them if none is named.
    targets: Vec<String>,
}

impl Args {
    /// Every target for 20 s.
    pub(crate) const fn short() -> Self {
        Self {
            seconds: 20,
            targets: Vec::new(),
        }
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let known: Vec<_> = TARGETS.iter().map(|one| one.name).collect();
    let unknown = |name: &&String| !known.contains(&name.as_str());
    if let Some(name) = args.targets.iter().find(unknown) {
        bail!("no target `{name}`; there are: {}", known.join(", "));
    }
    let asked =
        |one: &&Target| args.targets.is_empty() || args.targets.iter().any(|n| n == one.name);
    setup::apt(COMPILER)?;
    build()?;
    for one in TARGETS.iter().filter(asked) {
        one.run(args.seconds)?;
    }
    Ok(())
}

fn home() -> PathBuf {
    root().join("proxy-agent/fuzz")
}

fn build() -> Result<()> {
    let compiler = home().join("instrument.sh");
    let arguments = ["build", "--quiet", "--package", "proxy-fuzz", "--bins"];
    run_command(
        cargo()
            .args(arguments)
            .env("RUSTC_WORKSPACE_WRAPPER", compiler),
    )
}

impl Target {
    /// Runs it; an input that it fails for is kept, and named.
    fn run(&self, seconds: u32) -> Result<()> {
        println!("fuzz: {} for {seconds} s", self.name);
        // What is found goes to the first directory; the others are only read.
        let found = target("fuzz/corpus").join(self.name);
        let failures = target("fuzz/failures");
        for directory in [&found, &failures] {
            fs::create_dir_all(directory)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        let program = target("debug").join(format!("fuzz-{}", self.name));
        let dictionary = home().join(format!("{}.dict", self.name));
        let prefix = failures.join(format!("{}-", self.name));
        let mut command = Command::new(&program);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={}", self.max_len))
            .args([
                "-timeout=10",
                "-rss_limit_mb=2048",
                "-print_final_stats=1",
                "-verbosity=0",
            ])
            .arg(format!("-dict={}", dictionary.display()))
            .arg(format!("-artifact_prefix={}", prefix.display()))
            .arg(&found)
            .arg(home().join("corpus").join(self.name))
            .args(self.seeds.iter().map(|seeds| root().join(seeds)))
            .current_dir(target("fuzz"));
        run_command(&mut command).with_context(|| advice(&program, &prefix))
    }
}

fn advice(program: &Path, prefix: &Path) -> String {
    format!(
        "an input failed: it is {}*; once more with: {} FILE",
        prefix.display(),
        program.display()
    )
}
