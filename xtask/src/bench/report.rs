//! The tables for people, and the JSON with the facts of the host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use clap::ValueEnum as _;
use serde::Serialize;

use super::aims::{self, Outcome, Row};
use super::figures::{Figures, Measure, Spread};
use super::kind::Kind;
use super::scenario::LARGE_BYTES;
use super::work::Work;
use crate::workspace::{answer, root};

/// A column of the table of paths: its title, what it shows, and how.
type Column = (&'static str, Work, Measure, fn(f64) -> String);

/// Everything about one run of the bench.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    host: BTreeMap<&'static str, String>,
    rounds: u32,
    seconds: u32,
    aims: Vec<Row>,
    figures: Figures,
}

impl Report {
    pub(super) fn new(rounds: u32, seconds: u32, figures: Figures) -> Self {
        Self {
            host: host(),
            rounds,
            seconds,
            aims: aims::judge(&figures),
            figures,
        }
    }

    /// What was measured on each path, then what became of the aims.
    pub(super) fn tables(&self) -> String {
        format!(
            "{}\n{}\nMedians of {} rounds of {} s, interleaved; 32 requests at a time, 2 endpoints, {} CPUs, kernel \
             {}. Ratios matter, not absolutes.",
            self.paths(),
            self.verdicts(),
            self.rounds,
            self.seconds,
            self.host["cpus"],
            self.host["kernel"],
        )
    }

    /// One line for each path.
    fn paths(&self) -> String {
        let columns: &[Column] = &[
            ("requests/s", Work::KeepAlive, Measure::RequestsPerS, whole),
            ("p50", Work::KeepAlive, Measure::P50Us, micros),
            ("p99", Work::KeepAlive, Measure::P99Us, micros),
            ("CPU a request", Work::KeepAlive, Measure::CpuUs, tenths),
            (
                "1 MiB bodies",
                Work::LargeBodies,
                Measure::RequestsPerS,
                bodies,
            ),
            (
                "new connections/s",
                Work::NewConnections,
                Measure::RequestsPerS,
                whole,
            ),
            (
                "HTTP/2 requests/s",
                Work::Http2,
                Measure::RequestsPerS,
                whole,
            ),
            ("gRPC calls/s", Work::Grpc, Measure::RequestsPerS, whole),
            ("p50 at 2,000/s", Work::ConstantRate, Measure::P50Us, micros),
            ("p99 at 2,000/s", Work::ConstantRate, Measure::P99Us, micros),
            ("idle memory", Work::Idle, Measure::ResidentKib, mebi),
            ("of it in no file", Work::Idle, Measure::AnonymousKib, mebi),
            (
                "a connection",
                Work::IdleConnections,
                Measure::ConnectionBytes,
                kibi,
            ),
        ];
        let mut table = String::from("| path |");
        for (name, ..) in columns {
            let _infallible = write!(table, " {name} |");
        }
        table += "\n|---|";
        table += &"---|".repeat(columns.len());
        table.push('\n');
        for kind in Kind::value_variants() {
            let cell = |(_, work, measure, show): &Column| {
                let spread = self.figures.spread(*work, *kind, *measure);
                spread.map_or_else(|| "–".to_owned(), |spread| show(spread.median))
            };
            let cells: Vec<String> = columns.iter().map(cell).collect();
            if cells.iter().any(|cell| cell != "–") {
                let _infallible = writeln!(table, "| {kind} | {} |", cells.join(" | "));
            }
        }
        table
    }

    /// One line for each aim.
    fn verdicts(&self) -> String {
        let mut table = String::from(
            "| scenario | aim | medians | measured | least to most | |\n|---|---|---|---|---|---|\n",
        );
        for row in &self.aims {
            let measured = match &row.outcome {
                Outcome::NotAvailable(why) => format!("– | – | not available: {why}"),
                Outcome::Measured { spread, met } => {
                    let places = if row.unit == "×" { 2 } else { 1 };
                    let (Spread { median, min, max }, unit) = (spread, row.unit);
                    let verdict = if *met { "met" } else { "not met" };
                    format!(
                        "{median:.places$} {unit} | {min:.places$} to {max:.places$} | {verdict}"
                    )
                }
            };
            let (what, aim, medians) = (row.what, &row.aim, &row.medians);
            let _infallible = writeln!(table, "| {what} | {aim} | {medians} | {measured} |");
        }
        let restarts = self
            .figures
            .spread(Work::Restart, Kind::Agent, Measure::ElapsedMs);
        if let Some(restarts) = restarts {
            let _infallible = writeln!(
                table,
                "\nAfter a start, pods are captured again within {:.0} ms ({:.0} to {:.0}).",
                restarts.median, restarts.min, restarts.max,
            );
        }
        table
    }
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn micros(value: f64) -> String {
    format!("{value:.0} µs")
}

fn tenths(value: f64) -> String {
    format!("{value:.1} µs")
}

fn mebi(kib: f64) -> String {
    format!("{:.1} MiB", kib / 1_024.0)
}

fn kibi(bytes: f64) -> String {
    format!("{:.1} KiB", bytes / 1_024.0)
}

fn bodies(requests_per_s: f64) -> String {
    let bytes = f64::from(u32::try_from(LARGE_BYTES).unwrap_or(u32::MAX));
    format!("{:.2} GB/s", requests_per_s * bytes / 1e9)
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
