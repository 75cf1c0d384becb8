//! Medians, the table for people, and the JSON with the facts of the host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::measure::{Sample, Work};
use super::scenario::{Kind, LARGE_BYTES, Scenario};
use crate::workspace::{answer, root};

/// Everything about one run of the bench.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    host: BTreeMap<&'static str, String>,
    rounds: u32,
    seconds: u32,
    medians: Vec<Sample>,
    /// From the agent's start to a captured pod.
    pub(super) captured_again_ms: Option<f64>,
    memory_kib: BTreeMap<Kind, u64>,
    samples: Vec<Sample>,
}

impl Report {
    pub(super) fn new(
        rounds: u32,
        seconds: u32,
        scenarios: &[Scenario],
        samples: Vec<Sample>,
    ) -> Result<Self> {
        let mut medians = Vec::new();
        let mut memory_kib = BTreeMap::new();
        for scenario in scenarios {
            for work in Work::ALL {
                medians.extend(median(&samples, scenario.kind, *work));
            }
            if let Some(pid) = scenario.proxy_pid() {
                memory_kib.insert(scenario.kind, resident_kib(pid)?);
            }
        }
        Ok(Self {
            host: host(),
            rounds,
            seconds,
            medians,
            captured_again_ms: None,
            memory_kib,
            samples,
        })
    }

    /// One line for each scenario.
    pub(super) fn table(&self) -> String {
        let mut table = String::from(
            "| path | requests/s | p50 | p99 | proxy CPU per request | 1 MiB bodies \
             | new connections/s | proxy memory |\n|---|---|---|---|---|---|---|---|\n",
        );
        let kinds = self
            .medians
            .iter()
            .filter(|median| median.work == Work::KeepAlive);
        for kept in kinds {
            let other = |work| self.of(kept.kind, work);
            let large = other(Work::LargeBodies).map_or(0.0, |median| {
                median.requests_per_s * f64::from(u32::try_from(LARGE_BYTES).unwrap_or(0)) / 1e9
            });
            let fresh = other(Work::NewConnections).map_or(0.0, |median| median.requests_per_s);
            let memory = self.memory_kib.get(&kept.kind);
            let cpu = if memory.is_some() {
                format!("{:.1} µs", kept.proxy_cpu_us)
            } else {
                "–".to_owned()
            };
            let memory = memory.map_or("–".to_owned(), |kib| format!("{} MiB", kib / 1_024));
            // Writing to a string cannot fail.
            let _ = writeln!(
                table,
                "| {} | {:.0} | {:.0} µs | {:.0} µs | {cpu} | {large:.2} GB/s | {fresh:.0} \
                 | {memory} |",
                kept.kind, kept.requests_per_s, kept.p50_us, kept.p99_us,
            );
        }
        let _ = write!(
            table,
            "\nMedians of {} rounds of {} s, interleaved; wrk with 32 connections, 2 nginx \
             endpoints, {} CPUs, kernel {}. Ratios matter, not absolutes.",
            self.rounds, self.seconds, self.host["cpus"], self.host["kernel"],
        );
        table
    }

    fn of(&self, kind: Kind, work: Work) -> Option<&Sample> {
        self.medians
            .iter()
            .find(|median| (median.kind, median.work) == (kind, work))
    }
}

/// The median of each number by itself.
fn median(samples: &[Sample], kind: Kind, work: Work) -> Option<Sample> {
    let own: Vec<&Sample> = samples
        .iter()
        .filter(|sample| (sample.kind, sample.work) == (kind, work))
        .collect();
    let of = |number: fn(&Sample) -> f64| {
        let mut numbers: Vec<f64> = own.iter().map(|sample| number(sample)).collect();
        numbers.sort_by(f64::total_cmp);
        numbers.get(numbers.len() / 2).copied()
    };
    Some(Sample {
        kind,
        work,
        requests_per_s: of(|sample| sample.requests_per_s)?,
        p50_us: of(|sample| sample.p50_us)?,
        p99_us: of(|sample| sample.p99_us)?,
        bytes_per_s: of(|sample| sample.bytes_per_s)?,
        proxy_cpu_us: of(|sample| sample.proxy_cpu_us)?,
        failed: own.iter().map(|sample| sample.failed).sum(),
    })
}

fn resident_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("no VmRSS")
}

/// What a reader needs to judge the numbers.
fn host() -> BTreeMap<&'static str, String> {
    let said = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        answer(command.args(arguments).current_dir(root())).unwrap_or_default()
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    BTreeMap::from([
        (
            "cpu",
            model
                .unwrap_or_default()
                .trim_start_matches(['\t', ':', ' '])
                .to_owned(),
        ),
        ("cpus", said("nproc", &[])),
        ("kernel", said("uname", &["-r"])),
        ("commit", said("git", &["rev-parse", "--short", "HEAD"])),
        ("date", said("date", &["--utc", "+%Y-%m-%d"])),
    ])
}
