//! One run of a load: by whom, and what the proxies' processors did meanwhile.

use anyhow::{Context, Result};
use serde_json::Value;

use super::figures::{Measure, Sample};
use super::scenario::{Programs, Scenario};
use super::work::Work;
use super::{h2load, wrk};
use crate::process::{Threads, cpu_us};

/// Requests a second of the constant rate, and the connections that share it.
const RATE: &str = "2000";
const RATE_CONNECTIONS: &str = "16";

/// Runs one kind of load for so many seconds.
pub(super) fn run(
    scenario: &Scenario,
    work: Work,
    programs: &Programs,
    seconds: u32,
) -> Result<Sample> {
    if work == Work::ConstantRate {
        pace(scenario, programs, seconds)
    } else if matches!(work, Work::Http2 | Work::Grpc) {
        h2load::run(scenario, work, seconds)
    } else {
        wrk::run(scenario, work, seconds)
    }
}

/// Requests at a constant rate. The median of 1 s would be that of the scheduler's mood.
fn pace(scenario: &Scenario, programs: &Programs, seconds: u32) -> Result<Sample> {
    let seconds = (2 * seconds).to_string();
    let program = programs.bench.to_str().context("a path in UTF-8")?;
    let mut arguments = vec!["pace", "--rate", RATE, "--connections", RATE_CONNECTIONS];
    arguments.extend(["--seconds", &seconds]);
    let url = scenario.url(Work::ConstantRate);
    arguments.extend(["--url", &url]);
    let run = || scenario.client.run(program, &arguments)?.success();
    let report = |output: &str| serde_json::from_str::<Value>(output).ok();
    let requests = |output: &str| report(output)?["requests"].as_f64();
    let (output, cpu_us) = cpu_per_request(scenario, run, requests)?;
    let report = report(&output).context("the report of pace")?;
    let number = |name: &str| report[name].as_f64().with_context(|| format!("no {name}"));
    let mut sample = vec![
        (Measure::P50Us, number("p50_us")?),
        (Measure::P99Us, number("p99_us")?),
    ];
    sample.extend(cpu_us);
    Ok(sample)
}

/// Runs a load and divides what the proxies' processors did by its requests. Nothing to divide
/// without a proxy.
pub(super) fn cpu_per_request(
    scenario: &Scenario,
    run: impl FnOnce() -> Result<String>,
    requests: impl FnOnce(&str) -> Option<f64>,
) -> Result<(String, Option<(Measure, f64)>)> {
    let pids = scenario.pids();
    let cpu = || -> Result<f64> { pids.iter().map(|pid| cpu_us(*pid, Threads::All)).sum() };
    let before = cpu()?;
    let output = run()?;
    let used = cpu()? - before;
    let requests = requests(&output).filter(|count| *count > 0.0);
    let requests = requests.with_context(|| format!("no count of requests in:\n{output}"))?;
    let cpu = (!pids.is_empty()).then_some((Measure::CpuUs, used / requests));
    Ok((output, cpu))
}

/// A number with one of these units at its end.
pub(super) fn with_unit(text: &str, units: &[(&str, f64)]) -> Result<f64> {
    let found = units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    });
    found.with_context(|| format!("{text:?} is no quantity"))
}
