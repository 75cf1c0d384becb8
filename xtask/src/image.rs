//! `cargo xtask image`: the agent as a container image, written without a container engine.
//!
//! The image holds the binary with the libraries that it is linked with, and nothing else.

mod archive;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::{AGENT_AND_TESTS, BuildProfile, answer, cargo, run as run_command, target};
use crate::{build_ebpf, profile, setup};

pub(crate) use archive::Image;

/// What the image is called in a cluster.
pub(crate) const NAME: &str = "local/proxy-agent:dev";

/// `cargo xtask image`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The binary of a debug build, in target/proxy-agent-debug.tar: quicker to make, slower to run.
    #[arg(long)]
    debug_build: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::toolchain()?;
    let archive = build(if args.debug_build {
        BuildProfile::Debug
    } else {
        BuildProfile::Release
    })?;
    println!("{}: {NAME}", archive.display());
    Ok(())
}

/// Builds the agent and writes its image; returns the archive's path.
pub(crate) fn build(profile: BuildProfile) -> Result<PathBuf> {
    build_ebpf::build()?;
    // Of different names: what tests have built last is not to be shipped.
    let archive = match profile {
        BuildProfile::Debug => {
            run_command(cargo().args(["build", "--quiet"]).args(AGENT_AND_TESTS))?;
            "proxy-agent-debug.tar"
        }
        BuildProfile::Release => {
            profile::build()?;
            "proxy-agent.tar"
        }
    };
    let binary = stripped(&profile.folder().join("proxy-agent"))?;
    let mut image = Image::new(NAME, &["proxy-agent"])
        .label("org.opencontainers.image.title", "proxy-agent")
        .label(
            "org.opencontainers.image.description",
            "Transparent proxy for the pods of one Kubernetes node",
        )
        .label(
            "org.opencontainers.image.version",
            env!("CARGO_PKG_VERSION"),
        )
        .label("org.opencontainers.image.licenses", "Apache-2.0")
        .file(&binary, "/usr/local/bin/proxy-agent");
    for library in libraries(&binary)? {
        image = image.file(&library, &library.to_string_lossy());
    }
    let archive = target(archive);
    image.write(&archive)?;
    Ok(archive)
}

/// Writes the image of one program of the workspace, with its libraries; returns the archive's path.
pub(crate) fn of_program(name: &str, binary: &Path) -> Result<PathBuf> {
    let binary = stripped(binary)?;
    let program = binary.file_name().context("a program has a name")?;
    let program = program.to_string_lossy().into_owned();
    let mut image =
        Image::new(name, &[&program]).file(&binary, &format!("/usr/local/bin/{program}"));
    for library in libraries(&binary)? {
        image = image.file(&library, &library.to_string_lossy());
    }
    let archive = target(&format!("{program}.tar"));
    image.write(&archive)?;
    Ok(archive)
}

/// The binary without its debug information, most of its size.
fn stripped(binary: &Path) -> Result<PathBuf> {
    let folder = target("image");
    fs::create_dir_all(&folder).context("create target/image")?;
    let stripped = folder.join(binary.file_name().context("a program has a name")?);
    let objcopy = setup::llvm_prefix().join("bin/llvm-objcopy");
    run_command(
        Command::new(objcopy)
            .arg("--strip-debug")
            .args([binary, &stripped]),
    )?;
    Ok(stripped)
}

/// What the loader maps besides the binary, the loader included.
fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let listing = answer(Command::new("ldd").arg(binary)).context("run ldd")?;
    let libraries = parse_ldd(&listing);
    ensure!(!libraries.is_empty(), "ldd names no library:\n{listing}");
    Ok(libraries)
}

/// Lines are `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)` for the loader, and `NAME (ADDRESS)` for
/// what the kernel brings.
fn parse_ldd(listing: &str) -> Vec<PathBuf> {
    let words = listing.lines().flat_map(str::split_whitespace);
    words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffc)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0a)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f0b)\n";

        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse_ldd(listing), expected.map(PathBuf::from));
        assert!(parse_ldd("\tstatically linked\n").is_empty());
    }
}
