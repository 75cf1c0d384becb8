//! What the connect hook costs a connect(2), as the kernel itself counts (bpf_stats_enabled).

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::figures::{Measure, Sample};
use super::load;
use super::scenario::{Programs, Scenario};
use super::work::Work;
use crate::process::bpf_programs;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// Name of the program on IPv4's connect(2).
const PROGRAM: &str = "connect4";

/// Mean time of a run while connections are made one after the other: where everybody wants a processor, the time
/// that others have it in the middle of a run counts as the run's.
pub(super) fn mean(scenario: &Scenario, programs: &Programs, seconds: u32) -> Result<Sample> {
    let pid = scenario.pids().first().copied().context("an agent")?;
    let _on = Switch::on()?;
    let before = Runs::of(pid)?;
    load::run(scenario, Work::Hook, programs, seconds)?;
    let after = Runs::of(pid)?;
    let runs = after.count - before.count;
    ensure!(runs >= 1_000.0, "{PROGRAM} ran {runs} times");
    Ok(vec![(Measure::MeanNs, (after.ns - before.ns) / runs)])
}

/// The kernel counts runs and their time; off again on drop if it was off.
struct Switch {
    before: String,
}

impl Switch {
    fn on() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, &self.before) {
            println!(
                "bench: write {} to {SWITCH} by hand: {error}",
                self.before.trim()
            );
        }
    }
}

/// Runs of the program so far.
struct Runs {
    count: f64,
    ns: f64,
}

impl Runs {
    /// Of the program that this process holds.
    fn of(pid: u32) -> Result<Self> {
        let own = bpf_programs(pid)?;
        let listing = Command::new("bpftool")
            .args(["--json", "prog", "show"])
            .output();
        let listing = listing.context("run bpftool")?;
        let programs: Value = serde_json::from_slice(&listing.stdout).context("bpftool's JSON")?;
        let is_it = |program: &&Value| {
            let id = program["id"].as_u64();
            program["name"] == PROGRAM && id.is_some_and(|id| own.contains(&id))
        };
        let program = programs.as_array().into_iter().flatten().find(is_it);
        let program = program.with_context(|| format!("the agent holds no program {PROGRAM}"))?;
        // Absent before the first run.
        let number = |field: &str| program[field].as_f64().unwrap_or_default();
        Ok(Self {
            count: number("run_cnt"),
            ns: number("run_time_ns"),
        })
    }
}
