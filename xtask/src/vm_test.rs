//! `cargo xtask vm-test`: the tests that meet the kernel, on Debian's stock kernels.
//!
//! Each kernel runs in a virtual machine of its own, one after the other, under plain emulation: the
//! processor's own virtualisation is neither needed nor used. Nothing is installed but QEMU and what
//! the tests use anyway.

mod apt;
mod initramfs;
mod kernel;
mod machine;
mod report;
mod root;
mod suites;

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::builder::PossibleValuesParser;

use crate::e2e::Outcome;
use crate::setup;
use crate::workspace::target;
use kernel::{Kernel, MATRIX, Series};
use machine::Machine;
use report::Report;
use suites::Built;

/// The emulator, and what the machines' file systems are made with and of.
const DEBIAN: &[&str] = &[
    "binutils",
    "busybox-static",
    "cpio",
    "e2fsprogs",
    "kmod",
    "python3-grpcio",
    "qemu-system-x86",
    "xz-utils",
];

/// A whole run takes a few minutes; a machine that hangs shall not take the day.
const TIMEOUT: Duration = Duration::from_secs(40 * 60);

/// `cargo xtask vm-test`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which of Debian's kernels.
    #[arg(long, default_value = "all", value_parser = PossibleValuesParser::new(["6.1", "6.12", "6.18", "newest", "all"]))]
    kernel: String,
    /// Only these suites, e.g. `redirect`; a text that names none stands for all whose name contains it.
    #[arg(long, value_delimiter = ',')]
    test: Vec<String>,
    /// Only tests whose names contain one of these.
    filters: Vec<String>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let outcome = tests(&args.kernel, &args.test, &args.filters)?;
    if let Outcome::Skipped(missing) = outcome {
        println!("vm-test: SKIPPED, this machine lacks {missing}");
    }
    Ok(())
}

/// On the oldest kernel: whether it takes the programs, and what differs most from kernel to kernel.
pub(crate) fn short() -> Result<Outcome> {
    let floor = MATRIX.first().context("a kernel")?;
    let only = |name: &str| [name.to_owned()];
    tests(floor.name(), &only("hooks"), &only("acceleration"))
}

/// Runs tests on `kernel`, which may be `all`; in CI, what is missing is a failure.
fn tests(kernel: &str, only: &[String], filters: &[String]) -> Result<Outcome> {
    if let Some(missing) = missing() {
        ensure!(
            std::env::var_os("CI").is_none(),
            "no virtual machine can run: this machine lacks {missing}"
        );
        return Ok(Outcome::Skipped(missing));
    }
    setup::run(&setup::Args::default())?;
    setup::apt(DEBIAN)?;
    let chosen = MATRIX
        .iter()
        .filter(|series| kernel == "all" || kernel == series.name());
    let kernels = chosen
        .map(|&series: &Series| Kernel::bring(series))
        .collect::<Result<Vec<_>>>()?;
    let tests = suites::build(only)?;
    let folder = target("vm-test");
    fs::create_dir_all(&folder).context("make target/vm-test")?;
    let _alone = alone(&folder.join("lock"))?;
    let image = folder.join("root.ext4");
    let plan = plan(&tests, filters);
    root::write(&tests, &plan, &folder.join("root"), &image)?;
    let (mut reports, mut faults) = (Vec::new(), Vec::new());
    for kernel in &kernels {
        match boot(kernel, &image, &folder.join(kernel.name)) {
            Ok(report) => reports.push(report),
            // The other kernels are worth knowing all the same.
            Err(error) => faults.push(format!("{error:#}")),
        }
    }
    conclude(&reports, faults)?;
    Ok(Outcome::Passed)
}

/// Two at a time would write the same image, under a machine that runs from it.
fn alone(lock: &Path) -> Result<File> {
    let file = File::create(lock).with_context(|| format!("make {}", lock.display()))?;
    let alone = file.try_lock();
    alone.with_context(|| format!("another vm-test is at work: {} is locked", lock.display()))?;
    Ok(file)
}

/// What has no substitute here.
fn missing() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some("an x86-64 host, whose programs the machines run".to_owned());
    }
    apt::mirror()
        .is_none()
        .then(|| "a Debian mirror in apt's configuration".to_owned())
}

/// `check` first: it names what a kernel lacks, before anything else meets that.
fn plan(tests: &[Built], filters: &[String]) -> String {
    let agent = target("debug/proxy-agent");
    let mut plan = format!("export PROXY_AGENT_BIN='{}'\n", agent.display());
    plan.push_str("suite check 120 \"$PROXY_AGENT_BIN\" check\n");
    plan.extend(tests.iter().map(|test| test.plan(filters)));
    plan
}

/// Boots a kernel; all that is written about it goes into `folder`.
fn boot(kernel: &Kernel, root: &Path, folder: &Path) -> Result<Report> {
    if folder.exists() {
        fs::remove_dir_all(folder).context("remove what the last run left")?;
    }
    fs::create_dir_all(folder).context("make a folder")?;
    let initramfs = folder.join("initramfs.cpio");
    initramfs::write(kernel, &folder.join("initramfs"), &initramfs)?;
    println!("vm-test: booting {}", kernel.release);
    let machine = Machine {
        kernel,
        initramfs: &initramfs,
        root,
        console: folder.join("console.log"),
        timeout: TIMEOUT,
    };
    let said = machine.run(|line| println!("{}> {line}", kernel.name));
    let said = said.with_context(|| format!("the machine with {}", kernel.release))?;
    fs::write(folder.join("tests.log"), said.lines.join("\n")).context("keep what it said")?;
    Ok(Report::read(kernel.name, &kernel.release, &said))
}

fn conclude(reports: &[Report], mut faults: Vec<String>) -> Result<()> {
    println!("\n{}\n", report::table(reports));
    faults.extend(reports.iter().flat_map(Report::faults));
    if !faults.is_empty() {
        bail!("not everything is well:\n  {}", faults.join("\n  "));
    }
    println!("vm-test: all well on {} kernels", reports.len());
    Ok(())
}
