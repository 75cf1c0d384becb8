//! The project's verbs: `cargo xtask VERB`. One file a verb; this file only dispatches.
//!
//! A new verb is a module with `Args` and `run`, a variant of [`Verb`] and a line in `main`.

#![expect(clippy::print_stdout, reason = "the verbs speak to a terminal")]

mod build_ebpf;
mod setup;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, checks and shows proxy-agent.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Brings what is missing: the toolchain of the eBPF programs and the programs that tests use.
    Setup(setup::Args),
    /// Builds the eBPF object into target/bpf/proxy-ebpf, where the agent embeds it from.
    BuildEbpf(build_ebpf::Args),
}

fn main() -> Result<()> {
    match Cli::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::BuildEbpf(args) => build_ebpf::run(&args),
    }
}
