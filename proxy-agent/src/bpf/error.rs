//! Why the kernel side does not do what it was asked for.

use std::io;
use std::path::PathBuf;

/// What the kernel, or the object file, refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent was built without an object: build one or name one.
    #[error(
        "no eBPF object is embedded: run `cargo xtask build-ebpf` and build again, or pass --bpf-object PATH"
    )]
    NoObject,
    /// The object file cannot be read.
    #[error("read the eBPF object {}", path.display())]
    Read {
        /// As given by `--bpf-object`.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The object was refused as a whole: `proxy-agent check` says what the kernel lacks.
    #[error("load the eBPF object")]
    Load {
        /// Why.
        source: Box<aya::EbpfError>,
    },
    /// One program was refused: `proxy-agent check` says what the kernel lacks.
    #[error("load eBPF program {name}")]
    Program {
        /// Name in the object.
        name: &'static str,
        /// Why, with the verifier's log.
        source: Box<aya::programs::ProgramError>,
    },
    /// The object is another version's: use the embedded one.
    #[error("{name} is missing in the eBPF object or has another layout than this agent's")]
    OtherObject {
        /// Program or map.
        name: &'static str,
    },
    /// A program could not be attached; none is.
    #[error("attach eBPF program {name} to the cgroup")]
    Attach {
        /// Program.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A map is full: what did not fit is not there, the rest is.
    #[error("map {name} is full: it has room for {max_entries} entries")]
    MapFull {
        /// Map.
        name: &'static str,
        /// Its room.
        max_entries: u32,
    },
    /// A map operation failed.
    #[error("{operation} map {name}")]
    Map {
        /// What was tried.
        operation: &'static str,
        /// Map.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.lines().next().unwrap_or_default().to_owned()
}
