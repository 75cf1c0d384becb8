//! The project's verbs: `cargo xtask VERB`. One file a verb; this file only dispatches.
//!
//! A new verb is a module with `Args` and `run`, a variant of [`Verb`] and a line in `main`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the verbs speak to a terminal"
)]

mod bench;
mod build_ebpf;
mod cache;
mod chart;
mod cluster;
mod conformance;
mod demo;
mod e2e;
mod fuzz;
mod image;
mod installed;
mod manifests;
mod measure;
mod privileges;
mod process;
mod profile;
mod setup;
mod soak;
mod test;
mod tidy;
mod tools;
mod vm_test;
mod workspace;

use std::process::ExitCode;

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
    /// Shows captured traffic being routed and balanced, on a small node made for it.
    Demo(demo::Args),
    /// A real Kubernetes of several nodes on this machine.
    Cluster(cluster::Args),
    /// The agent as a container image, in target/proxy-agent.tar.
    Image(image::Args),
    /// Every check and every test, as CI runs them.
    Test(test::Args),
    /// The end-to-end tests, as root on nodes out of network namespaces.
    E2e(e2e::Args),
    /// The fuzz targets, with libFuzzer: greetings, manifests, messages, paths, requests, responses.
    Fuzz(fuzz::Args),
    /// The kernel-facing tests on stock kernels, each in a virtual machine.
    VmTest(vm_test::Args),
    /// The Gateway API's conformance suite, as root on a real cluster.
    Conformance(conformance::Args),
    /// Measures the agent beside no mesh and beside sidecars.
    Bench(bench::Args),
    /// Records what release builds are optimised by, from the bench's loads.
    Profile(profile::Args),
    /// Measures what needs a real cluster: enrolment of pods, a large configuration.
    Measure(measure::Args),
    /// Keeps a cluster changing under load and looks for leaks and errors.
    Soak(soak::Args),
    /// Checks the Helm chart, over several values files, and what is rendered from it.
    Chart(chart::Args),
    /// Renders deploy/manifests from the chart.
    Manifests(manifests::Args),
    /// Takes each capability, host path and rule of the chart away, on a real cluster.
    Privileges(privileges::Args),
    /// Checks layers, doors of foreign crates, and the form of files.
    Tidy(tidy::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by returning it: where RUST_BACKTRACE is set, its trace would bury the message.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::BuildEbpf(args) => build_ebpf::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Cluster(args) => cluster::run(&args),
        Verb::Image(args) => image::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::E2e(args) => e2e::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::VmTest(args) => vm_test::run(&args),
        Verb::Conformance(args) => conformance::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Profile(args) => profile::run(&args),
        Verb::Measure(args) => measure::run(&args),
        Verb::Soak(args) => soak::run(&args),
        Verb::Chart(args) => chart::run(&args),
        Verb::Manifests(args) => manifests::run(&args),
        Verb::Privileges(args) => privileges::run(&args),
        Verb::Tidy(args) => tidy::run(&args),
    }
}
