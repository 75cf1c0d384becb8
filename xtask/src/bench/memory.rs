//! What a proxy's memory grows by for each connection that is kept and has nothing to do.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use proxy_e2e::Process;

use super::figures::{Measure, Sample};
use super::scenario::{Programs, Scenario};
use super::work::Work;
use crate::process::{anonymous_kib, resident_kib};

/// Connections before the first look: what a proxy sets up once is not theirs.
const BEFORE: u32 = 200;
/// Connections that are counted.
const COUNTED: u32 = 2_000;
/// For a proxy that gives back what its start, or its connections while they were busy, have needed.
const SETTLE: Duration = Duration::from_secs(4);

/// Memory of a proxy that has carried nothing yet.
pub(super) fn idle(scenario: &Scenario) -> Result<Sample> {
    sleep(SETTLE);
    Ok(vec![
        (Measure::ResidentKib, sum(scenario, resident_kib)?),
        (Measure::AnonymousKib, sum(scenario, anonymous_kib)?),
    ])
}

/// Memory for each of [`COUNTED`] connections that have carried one request.
pub(super) fn connections(scenario: &Scenario, programs: &Programs) -> Result<Sample> {
    let _before = hold(scenario, programs, BEFORE)?;
    sleep(SETTLE);
    let before = sum(scenario, resident_kib)?;
    let _counted = hold(scenario, programs, COUNTED)?;
    sleep(SETTLE);
    let grown_bytes = (sum(scenario, resident_kib)? - before) * 1_024.0;
    Ok(vec![(
        Measure::ConnectionBytes,
        grown_bytes / f64::from(COUNTED),
    )])
}

fn hold(scenario: &Scenario, programs: &Programs, connections: u32) -> Result<Process> {
    let url = scenario.url(Work::IdleConnections);
    let mut command = Command::new(&programs.bench);
    command.args(["hold", "--connections", &connections.to_string()]);
    command.args(["--url", &url]);
    let mut process = scenario.client.spawn("hold", command)?;
    process.wait_for_output("ready")?;
    Ok(process)
}

/// Of everything that stands between, KiB.
fn sum(scenario: &Scenario, of: fn(u32) -> Result<u64>) -> Result<f64> {
    let mut kib = 0.0;
    for pid in scenario.pids() {
        kib += f64::from(u32::try_from(of(pid)?)?);
    }
    Ok(kib)
}
