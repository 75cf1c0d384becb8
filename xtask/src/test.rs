//! `cargo xtask test`: every check and every test, as CI runs them.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::e2e::{self, Outcome};
use crate::workspace::{cargo, root, run as run_command, target};
use crate::{bench, build_ebpf, chart, fuzz, privileges, setup, tidy, tools, vm_test};

/// `cargo xtask test`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What needs neither root nor the BPF toolchain and takes seconds: before a commit.
    #[arg(long)]
    fast: bool,
    /// Only steps whose name contains this, e.g. `bench`.
    #[arg(long)]
    only: Option<String>,
}

type Step = (&'static str, fn() -> Result<Outcome>);

const FAST: &[Step] = &[
    ("format", format),
    ("tidy", || passed(tidy::run(&tidy::Args::default()))),
    ("spelling", spelling),
    ("clippy", clippy),
];

const ALL: &[Step] = &[
    ("format", format),
    ("tidy", || passed(tidy::run(&tidy::Args::default()))),
    ("spelling", spelling),
    ("eBPF object", ebpf),
    ("clippy", clippy),
    ("clippy, eBPF programs", clippy_ebpf),
    ("documentation", documentation),
    ("tests without root", unit),
    ("fuzz targets, 20 s each", || {
        passed(fuzz::run(&fuzz::Args::short()))
    }),
    ("chart", || passed(chart::run(&chart::Args::default()))),
    ("scripts", scripts),
    ("dependencies", dependencies),
    ("end to end", || e2e::tests(&e2e::Args::all())),
    ("on a cluster", || e2e::tests(&e2e::Args::on_cluster())),
    ("privileges, on a cluster", privileges::tests),
    ("bench, one short round", || bench::smoke()),
    ("oldest kernel, in a virtual machine", || vm_test::short()),
];

/// Runs the verb: all steps, also after one that failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let steps = if args.fast { FAST } else { ALL };
    let asked = |name: &str| args.only.as_deref().is_none_or(|only| name.contains(only));
    let steps = steps.iter().filter(|(name, _)| asked(name));
    let mut summary = Summary::default();
    for (name, step) in steps {
        println!("\n==> {name}");
        let begun = Instant::now();
        let outcome = step();
        if let Err(error) = &outcome {
            println!("==> {name} FAILED: {error:#}");
        }
        summary.add(name, outcome, begun.elapsed());
    }
    summary.conclude()
}

/// What is said in the end.
#[derive(Debug, Default)]
struct Summary {
    passed: usize,
    failed: Vec<&'static str>,
    skipped: Vec<String>,
    lines: Vec<String>,
}

impl Summary {
    fn add(&mut self, name: &'static str, outcome: Result<Outcome>, took: Duration) {
        let word = match outcome {
            Ok(Outcome::Passed) => {
                self.passed += 1;
                "passed"
            }
            Ok(Outcome::Skipped(why)) => {
                self.skipped
                    .push(format!("{name} (this machine lacks {why})"));
                "SKIPPED"
            }
            Err(_) => {
                self.failed.push(name);
                "FAILED"
            }
        };
        self.lines
            .push(format!("{word:8} {name} ({} s)", took.as_secs()));
    }

    fn conclude(self) -> Result<()> {
        println!("\n{}", self.lines.join("\n"));
        let skipped = match self.skipped.as_slice() {
            [] => String::new(),
            skipped => format!("; SKIPPED: {}", skipped.join(", ")),
        };
        if !self.failed.is_empty() {
            bail!("failed: {}{skipped}", self.failed.join(", "));
        }
        if self.lines.is_empty() {
            bail!("no step has such a name");
        }
        println!("ok: {} steps passed{skipped}", self.passed);
        Ok(())
    }
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

fn format() -> Result<Outcome> {
    passed(run_command(cargo().args(["fmt", "--all", "--check"])))
}

fn spelling() -> Result<Outcome> {
    let typos = tools::typos()?;
    passed(run_command(Command::new(typos).current_dir(root())))
}

/// Shell scripts that users run.
fn scripts() -> Result<Outcome> {
    let shellcheck = tools::shellcheck()?;
    let scripts = [
        "deploy/kubectl-proxy_agent",
        ".ci/run",
        "proxy-agent/fuzz/instrument.sh",
        "xtask/src/vm_test/guest.sh",
        "xtask/src/vm_test/init.sh",
    ];
    passed(run_command(
        Command::new(shellcheck).args(scripts).current_dir(root()),
    ))
}

fn ebpf() -> Result<Outcome> {
    setup::toolchain()?;
    passed(build_ebpf::build().map(drop))
}

fn clippy() -> Result<Outcome> {
    let arguments = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-Dwarnings",
    ];
    passed(run_command(cargo().args(arguments)))
}

fn clippy_ebpf() -> Result<Outcome> {
    passed(build_ebpf::clippy())
}

fn documentation() -> Result<Outcome> {
    let arguments = [
        "doc",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ];
    // Documents of a program are for those who work on it: links to private items are meant.
    let flags = "-Dwarnings -Arustdoc::private_intra_doc_links";
    passed(run_command(
        cargo().args(arguments).env("RUSTDOCFLAGS", flags),
    ))
}

fn unit() -> Result<Outcome> {
    let packages = ["proxy-agent", "proxy-ebpf", "xtask"];
    let packages = packages.iter().flat_map(|name| ["--package", name]);
    passed(run_command(
        cargo().args(["test", "--quiet"]).args(packages),
    ))
}

/// Not `advisories`: their database is a git repository, and the build reaches package
/// registries alone.
fn dependencies() -> Result<Outcome> {
    let deny = tools::cargo_deny()?;
    let path = deny.to_str().context("a path in UTF-8")?;
    let mut command = Command::new(path);
    command
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target(""));
    passed(run_command(
        command.args(["check", "bans", "licenses", "sources"]),
    ))
}
