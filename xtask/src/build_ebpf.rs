//! `cargo xtask build-ebpf`: the eBPF object. It only builds; `setup` brings the toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Toolchain};
use crate::workspace::{self, answer, cargo, root, run as run_command};

/// The target of the programs; both ends of the ABI must agree on the byte order.
const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// `cargo xtask build-ebpf`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only lint the programs.
    #[arg(long)]
    clippy: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.clippy {
        return clippy();
    }
    let object = build()?;
    println!("{}", object.display());
    Ok(())
}

/// Builds the object and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    let Some(toolchain) = Toolchain::find() else {
        bail!("no Rust with sources for the BPF target: run `cargo xtask setup`");
    };
    let Some(linker) = setup::bpf_linker() else {
        bail!("no bpf-linker: run `cargo xtask setup`");
    };
    compile(toolchain, &linker)?;
    let built = workspace::target("ebpf")
        .join(TARGET)
        .join("release/proxy-ebpf");
    let object = workspace::target("bpf/proxy-ebpf");
    install(&built, &object)?;
    Ok(object)
}

fn compile(toolchain: Toolchain, linker: &Path) -> Result<()> {
    // BTF is what the kernel wants for socket storage; the linker makes it of the debug info.
    let flags = [
        &*format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
    ];
    let linker_variable = format!(
        "CARGO_TARGET_{}_LINKER",
        TARGET.to_uppercase().replace('-', "_")
    );
    run_command(
        toolchain
            .cargo()
            .current_dir(root())
            .args(["build", "--quiet", "--release", "--package", "proxy-ebpf"])
            .args(["--bin", "proxy-ebpf", "--features", "programs"])
            .args(["--target", TARGET, "-Zbuild-std=core"])
            .arg("--target-dir")
            .arg(workspace::target("ebpf"))
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env(linker_variable, linker),
    )
}

/// Puts the object where the agent's build looks, without DWARF, and only if it is another one:
/// a new time stamp would build the agent anew.
fn install(built: &Path, object: &Path) -> Result<()> {
    let folder = object.parent().context("the object has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let stripped = object.with_extension("new");
    let objcopy = setup::llvm_prefix().join("bin/llvm-objcopy");
    run_command(
        Command::new(objcopy)
            .arg("--strip-debug")
            .args([built, &stripped]),
    )?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    if object.exists() && read(object)? == read(&stripped)? {
        return fs::remove_file(&stripped).context("remove the object that is not new");
    }
    fs::rename(&stripped, object).with_context(|| format!("write {}", object.display()))
}

/// Lints the programs with the host's clippy: a BPF toolchain has none.
pub(crate) fn clippy() -> Result<()> {
    run_command(
        cargo()
            .args(["clippy", "--quiet", "--package", "proxy-ebpf"])
            .args(["--bin", "proxy-ebpf", "--features", "programs"])
            // A program without std cannot unwind.
            .args(["--config", "profile.dev.panic=\"abort\""])
            .arg("--target-dir")
            .arg(workspace::target("ebpf-clippy"))
            .args(["--", "--deny", "warnings"]),
    )
}

/// Major number of the LLVM in a rustc.
pub(crate) fn llvm_major(rustc: &mut Command) -> Option<u32> {
    parse_llvm_major(&answer(rustc.arg("-vV"))?)
}

fn parse_llvm_major(verbose_version: &str) -> Option<u32> {
    let mut lines = verbose_version.lines();
    let version = lines.find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_rustc_is_read_from_its_version() {
        let verbose = "rustc 1.96.0\nbinary: rustc\nLLVM version: 22.1.8";
        assert_eq!(parse_llvm_major(verbose), Some(22));
        assert_eq!(parse_llvm_major("rustc 1.96.0"), None);
    }
}
