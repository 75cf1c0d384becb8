//! `cargo xtask e2e`: the tests that need root, on a node out of network namespaces.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use proxy_e2e::cluster::Cluster;

use crate::image;
use crate::workspace::{
    AGENT_AND_TESTS, BuildProfile, answer, cargo, root, run as run_command, target,
};
use crate::{build_ebpf, setup, soak, tools};

/// What tests run inside of pods, beyond what `setup` brings.
const DEBIAN: &[&str] = &["python3-grpcio"];

/// `cargo xtask e2e`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Only this file of tests/tests, e.g. `redirect`.
    #[arg(long)]
    test: Option<String>,
    /// The tests on a real Kubernetes instead, one after the other.
    #[arg(long, conflicts_with_all = ["test", "threads"])]
    cluster: bool,
    /// After them, on the same cluster, a short `cargo xtask soak`.
    #[arg(long, requires = "cluster")]
    soak: bool,
    /// Tests at the same time.
    #[arg(long, default_value_t = 2)]
    threads: u8,
}

impl Args {
    /// All tests on nodes out of network namespaces, two at a time.
    pub(crate) fn all() -> Self {
        Self {
            filter: None,
            test: None,
            cluster: false,
            soak: false,
            threads: 2,
        }
    }

    /// All tests on a real Kubernetes, and a short soak.
    pub(crate) fn on_cluster() -> Self {
        Self {
            cluster: true,
            soak: true,
            ..Self::all()
        }
    }
}

/// What came of the end-to-end tests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// They ran and passed.
    Passed,
    /// They did not run, for what this machine lacks.
    Skipped(String),
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Outcome::Skipped(missing) = tests(args)? {
        println!("e2e: SKIPPED, this machine lacks {missing}");
    }
    Ok(())
}

/// Runs the tests, or says why it cannot; in CI, what is missing is a failure.
pub(crate) fn tests(args: &Args) -> Result<Outcome> {
    if let Some(missing) = missing_privilege() {
        if std::env::var_os("CI").is_some() {
            bail!("the end-to-end tests cannot run: this machine lacks {missing}");
        }
        return Ok(Outcome::Skipped(missing));
    }
    setup::run(&setup::Args::default())?;
    if args.cluster {
        return cluster_tests(args);
    }
    setup::apt(DEBIAN)?;
    let h2spec = tools::h2spec()?;
    build_ebpf::build()?;
    run_command(cargo().arg("build").args(AGENT_AND_TESTS))?;
    if args.test.is_none() {
        run_command(&mut privileged_unit_tests(args))?;
    }
    run_command(node_tests(args)?.env("PROXY_AGENT_H2SPEC", h2spec))?;
    Ok(Outcome::Passed)
}

/// Tests of the agent's own modules that need root.
fn privileged_unit_tests(args: &Args) -> Command {
    let mut command = cargo();
    command.arg("test").args(AGENT_AND_TESTS);
    command.args(["--lib", "--test", "capture", "--test", "kernel"]);
    harness_arguments(&mut command, args).arg("--ignored");
    command
}

/// Tests of the agent's own modules that need an API server, and nothing else of a cluster.
fn api_server_tests(args: &Args) -> Command {
    let mut command = cargo();
    command.arg("test").args(AGENT_AND_TESTS);
    command.args(["--test", "kubernetes"]);
    command.env("RUST_BACKTRACE", "0");
    harness_arguments(&mut command, args).arg("--ignored");
    command
}

fn node_tests(args: &Args) -> Result<Command> {
    let mut command = cargo();
    command.arg("test").args(AGENT_AND_TESTS);
    command.arg("--no-fail-fast");
    match &args.test {
        Some(test) => {
            command.args(["--test", test]);
        }
        None => {
            command.arg("--lib");
            for test in test_files()? {
                command.args(["--test", &test]);
            }
        }
    }
    command.env("PROXY_AGENT_BIN", target("debug/proxy-agent"));
    // What failed is in the error; a trace of the harness would bury it.
    command.env("RUST_BACKTRACE", "0");
    harness_arguments(&mut command, args);
    Ok(command)
}

/// The tests of tests/tests, files and folders, but for those that need a cluster or a machine of
/// their own.
fn test_files() -> Result<Vec<String>> {
    let folder = root().join("tests/tests");
    let entries = std::fs::read_dir(&folder).context("read tests/tests")?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.context("a name in UTF-8")?;
        if !name.starts_with("cluster") && name != "vm" {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn cluster_tests(args: &Args) -> Result<Outcome> {
    setup::cluster()?;
    run_command(&mut api_server_tests(args))?;
    let image = image::build(BuildProfile::Debug)?;
    let wrk = image::of_program("local/wrk:dev", Path::new("/usr/bin/wrk"))?;
    let test = [&["test"], &AGENT_AND_TESTS[..], &["--test", "cluster"]].concat();
    run_command(cargo().args(&test).arg("--no-run"))?;
    sweep()?;
    let folder = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
    let cluster = Cluster::up(&folder, 2)?;
    let mut command = cargo();
    command.args(&test).arg("--").args(&args.filter);
    command
        .env("PROXY_AGENT_E2E_CLUSTER", &folder)
        .env("PROXY_AGENT_IMAGE", &image)
        .env("PROXY_AGENT_WRK_IMAGE", wrk)
        .env("RUST_BACKTRACE", "0");
    run_command(&mut command)?;
    if args.soak {
        soak::run(&soak::Args::short(folder, image))?;
    }
    drop(cluster);
    Ok(Outcome::Passed)
}

/// What the folders of clusters for tests are called, before the process that they belong to.
const PREFIX: &str = "proxy-agent-test-";

/// Removes the clusters of runs that were killed.
fn sweep() -> Result<()> {
    for entry in std::env::temp_dir().read_dir()?.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let gone = owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if gone {
            Cluster::remove(&entry.path())?;
        }
    }
    Ok(())
}

fn harness_arguments<'a>(command: &'a mut Command, args: &Args) -> &'a mut Command {
    command
        .args(&args.filter)
        .arg("--")
        .args(["--test-threads", &args.threads.to_string()])
}

/// The first thing that the node harness needs and this machine does not give.
pub(crate) fn missing_privilege() -> Option<String> {
    if answer(Command::new("id").arg("-u")).as_deref() != Some("0") {
        return Some("root".to_owned());
    }
    if let Err(missing) = capabilities() {
        return Some(missing.to_string());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !mounts.contains(" - cgroup2 ") {
        return Some("a cgroup2 mount".to_owned());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("kernel BTF (/sys/kernel/btf/vmlinux)".to_owned());
    }
    None
}

/// Capabilities by their bit in `CapEff` (include/uapi/linux/capability.h).
const CAPABILITIES: &[(u8, &str)] = &[
    (12, "CAP_NET_ADMIN"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

fn capabilities() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.unwrap_or_default().trim(), 16)?;
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    ensure!(missing.is_empty(), "{}", missing.join(", "));
    Ok(())
}
