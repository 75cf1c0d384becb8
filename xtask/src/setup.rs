//! `cargo xtask setup`: brings what the build and the tests need and the machine lacks, and says
//! so. Quick when everything is there. Other verbs call [`apt`] for what they need themselves.

mod cluster;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build_ebpf::llvm_major;
use crate::workspace::{self, answer, cargo, run as run_command};

/// bpf-linker and the LLVM that it is built with. It reads the bitcode of this LLVM and of older
/// ones.
const BPF_LINKER: &str = "0.13.0";
const LLVM: u32 = 22;

/// Builds the programs: a Rust with its sources, Debian's build for browsers.
const DEBIAN_RUST: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
/// Builds bpf-linker.
const DEBIAN_LLVM: &[&str] = &["llvm-22-dev", "gcc", "g++", "libc6-dev"];
/// What tests and the demo run in pods or look with.
const DEBIAN_TEST_TOOLS: &[&str] = &[
    "bpftool",
    "curl",
    "haproxy",
    "iproute2",
    "nftables",
    "nghttp2-client",
    "nginx-light",
    "procps",
    "python3",
    "wrk",
];

/// `cargo xtask setup`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only the toolchain of the eBPF programs, not the programs that the tests use.
    #[arg(long)]
    toolchain_only: bool,
    /// Also a whole Kubernetes, built from its modules: a quarter of an hour the first time.
    #[arg(long, conflicts_with = "toolchain_only")]
    cluster: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    toolchain()?;
    if !args.toolchain_only {
        apt(DEBIAN_TEST_TOOLS)?;
    }
    if args.cluster {
        cluster()?;
    }
    println!("setup: everything is there");
    Ok(())
}

/// Brings what a test cluster is made of.
pub(crate) fn cluster() -> Result<()> {
    cluster::run_all()
}

/// Brings the toolchain of the eBPF programs.
pub(crate) fn toolchain() -> Result<()> {
    if Toolchain::find().is_none() {
        println!("setup: no nightly with rust-src whose LLVM is at most {LLVM}: taking Debian's");
        apt(DEBIAN_RUST)?;
    }
    if bpf_linker().is_none() {
        install_bpf_linker()?;
    }
    Ok(())
}

/// A Rust that can build `core` for the BPF target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Toolchain {
    /// rustup's nightly with rust-src.
    RustupNightly,
    /// rustc-web, cargo-web and rust-web-src in /usr.
    Debian,
}

impl Toolchain {
    /// The first one that is complete.
    pub(crate) fn find() -> Option<Self> {
        [Self::RustupNightly, Self::Debian]
            .into_iter()
            .find(|toolchain| toolchain.is_complete())
    }

    /// Its cargo, free of what the calling cargo left in the environment.
    pub(crate) fn cargo(self) -> Command {
        let mut command = self.command("cargo");
        for variable in ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(variable);
        }
        if self == Self::Debian {
            // A stable compiler; `core` for another target needs unstable options.
            command
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", "/usr/bin/rustc");
        }
        command
    }

    fn command(self, program: &str) -> Command {
        match self {
            Self::RustupNightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", program]);
                command
            }
            Self::Debian => Command::new(Path::new("/usr/bin").join(program)),
        }
    }

    fn is_complete(self) -> bool {
        let sysroot = answer(self.command("rustc").args(["--print", "sysroot"]));
        let has_sources = sysroot.is_some_and(|sysroot| {
            let sources = Path::new(&sysroot).join("lib/rustlib/src/rust/library");
            sources.join("core/Cargo.toml").exists()
        });
        has_sources
            && llvm_major(&mut self.command("rustc")).is_some_and(|major| major <= LLVM)
            && answer(self.command("cargo").arg("--version")).is_some()
    }
}

/// Where LLVM is.
pub(crate) fn llvm_prefix() -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{LLVM}"))
}

/// The project's own bpf-linker, if it is there and runs.
pub(crate) fn bpf_linker() -> Option<PathBuf> {
    let linker = workspace::target("tools/bin/bpf-linker");
    let version = answer(Command::new(&linker).arg("--version"))?;
    version.ends_with(BPF_LINKER).then_some(linker)
}

fn install_bpf_linker() -> Result<()> {
    apt(DEBIAN_LLVM)?;
    println!("setup: building bpf-linker {BPF_LINKER} into target/tools (about a minute)");
    run_command(
        cargo()
            .args(["install", "bpf-linker", "--version", BPF_LINKER])
            .args(["--locked", "--no-default-features", "--quiet"])
            .args(["--features", &format!("llvm-{LLVM}")])
            .arg("--root")
            .arg(workspace::target("tools"))
            .env("LLVM_PREFIX", llvm_prefix()),
    )?;
    bpf_linker().context("bpf-linker was installed and does not run")?;
    Ok(())
}

/// Installs those Debian packages of `packages` that are not installed.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" ");
    if answer(Command::new("apt-get").arg("--version")).is_none() {
        bail!(
            "this machine has no apt-get; install what these Debian packages stand for: {missing}"
        );
    }
    if answer(Command::new("id").arg("-u")).as_deref() != Some("0") {
        bail!("run this as root once, or: apt-get install {missing}");
    }
    println!("setup: installing with apt-get: {missing}");
    run_command(apt_get().arg("update"))?;
    let _no_services = NoServices::hold()?;
    run_command(
        apt_get()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(missing.split(' ')),
    )
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-qq").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_installed(package: &str) -> bool {
    let status =
        answer(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]));
    status.as_deref() == Some("installed")
}

/// Keeps packages such as nginx from starting their services, as Debian's policy provides
/// (invoke-rc.d(8)); the tests start their own. Dropping it takes the policy back.
struct NoServices {
    policy: Option<PathBuf>,
}

impl NoServices {
    fn hold() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;

        let path = PathBuf::from("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(Self { policy: None });
        }
        std::fs::write(&path, "#!/bin/sh\nexit 101\n").context("write /usr/sbin/policy-rc.d")?;
        let executable = std::fs::Permissions::from_mode(0o755);
        let held = Self { policy: Some(path) };
        if let Some(path) = &held.policy {
            std::fs::set_permissions(path, executable).context("make policy-rc.d executable")?;
        }
        Ok(held)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let Some(path) = &self.policy else { return };
        if let Err(error) = std::fs::remove_file(path) {
            println!("setup: remove {} by hand: {error}", path.display());
        }
    }
}
