//! `cargo xtask bench`: the agent beside no mesh and beside sidecars, on one machine.
//!
//! Every scenario has a node of its own. Rounds are interleaved (A B C, A B C …), so that what the
//! machine does besides hits all of them; medians are reported. Ratios carry over to other
//! machines, absolute numbers do not.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::e2e::{Outcome, missing_privilege};
use crate::workspace::{cargo, run as run_command, target};
use crate::{build_ebpf, setup, tools};

mod measure;
mod report;
mod restart;
mod scenario;
mod sidecar;

use measure::{Sample, Work};
use report::Report;
use scenario::{Kind, Scenario};

/// `cargo xtask bench`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; each runs every scenario once.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds for each kind of work in a round.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(missing) = missing_privilege() {
        anyhow::bail!("the bench cannot run: this machine lacks {missing}");
    }
    setup::run(&setup::Args::default())?;
    build_ebpf::build()?;
    run_command(cargo().args(["build", "--release", "--package", "proxy-agent"]))?;
    run_command(cargo().args(["build", "--package", "proxy-e2e"]))?;
    compare(args, target("release/proxy-agent"))
}

/// One short round of the agent and no mesh, with the binary that the tests use: the bench works.
pub(crate) fn smoke() -> Result<Outcome> {
    if let Some(missing) = missing_privilege() {
        return Ok(Outcome::Skipped(missing));
    }
    let args = Args {
        rounds: 1,
        seconds: 1,
        only: vec![Kind::NoMesh, Kind::Direct, Kind::Agent],
    };
    compare(&args, target("debug/proxy-agent"))?;
    Ok(Outcome::Passed)
}

fn compare(args: &Args, agent: PathBuf) -> Result<()> {
    let kinds: &[Kind] = if args.only.is_empty() {
        Kind::ALL
    } else {
        &args.only
    };
    let envoy = kinds
        .contains(&Kind::Envoy)
        .then(tools::envoy)
        .transpose()?;
    let programs = scenario::Programs { agent, envoy };
    let mut scenarios = Vec::new();
    for kind in kinds {
        println!("bench: setting up {kind}");
        scenarios.push(Scenario::start(*kind, &programs)?);
    }
    let mut samples: Vec<Sample> = Vec::new();
    for round in 1..=args.rounds {
        for work in Work::ALL {
            for scenario in &scenarios {
                let sample = measure::sample(scenario, *work, args.seconds)?;
                println!("bench: round {round}, {sample}");
                ensure!(
                    sample.failed == 0,
                    "{} of {} had failures",
                    sample.work,
                    sample.kind
                );
                samples.push(sample);
            }
        }
    }
    let mut report = Report::new(args.rounds, args.seconds, &scenarios, samples)?;
    println!("\n{}", report.table());
    if kinds.contains(&Kind::Agent) {
        let captured_again_ms = restart::captured_again_ms(&programs.agent)?;
        println!(
            "After a start, pods are captured again within {captured_again_ms:.0} ms (median)."
        );
        report.captured_again_ms = Some(captured_again_ms);
    }
    let folder = target("bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join("latest.json");
    fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    println!("bench: everything in {}", path.display());
    Ok(())
}
