//! The first screen of `status`: is it serving, what is captured, and what is wrong.

use std::fmt::Write;

use super::findings;
use super::units::{count, milliseconds, percent, seconds};
use crate::status::{KindStatus, LeaseStatus, Overview, SourceStatus, Status};

/// Unknown kinds that are listed by name; the rest is a number.
const MAX_UNKNOWN_KINDS: usize = 10;

/// The overview as text.
pub(super) fn text(status: &Status) -> String {
    let overview = &status.overview;
    let mut text = headline(overview);
    for reason in &overview.not_ready {
        line(&mut text, "not ready", reason);
    }
    line(&mut text, "pods", &pods(overview));
    line(&mut text, "programs", &programs(status));
    line(&mut text, "heartbeat", &heartbeat(overview));
    line(&mut text, "snapshot", &snapshot(overview));
    for source in &overview.sources {
        line(&mut text, "source", &source_line(source));
        for kind in source.kinds.iter().filter(|kind| kind.state != "synced") {
            line(&mut text, "", &kind_line(kind));
        }
    }
    if let Some(lease) = &overview.lease {
        line(&mut text, "routes", &lease_line(lease));
    }
    line(&mut text, "services", &services(status));
    line(&mut text, "traffic", &traffic(status));
    line(&mut text, "problems", &problem_counts(overview));
    for problem in findings::sorted(&status.problems) {
        line(&mut text, "", &findings::line(problem));
    }
    let left_out = (overview.errors + overview.warnings).saturating_sub(status.problems.len());
    if left_out > 0 {
        line(&mut text, "", &format!("and {left_out} more"));
    }
    unknown_kinds(&mut text, &status.unknown_kinds);
    text
}

/// A label and what it says, aligned.
fn line(text: &mut String, label: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{label:<11}{value}");
}

fn headline(overview: &Overview) -> String {
    format!(
        "proxy-agent {} on {}: {} (pid {}, up {})\n",
        overview.version,
        overview.node,
        overview.state,
        overview.pid,
        seconds(overview.uptime_s)
    )
}

fn pods(overview: &Overview) -> String {
    format!(
        "{} captured, {} not (--capture {}, under {})",
        overview.pods_captured, overview.pods_not_captured, overview.capture, overview.cgroup_root
    )
}

fn programs(status: &Status) -> String {
    let programs = &status.bpf.programs;
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| !program.attached)
        .map(|program| program.name.as_str())
        .collect();
    let attached = programs.len() - missing.len();
    if missing.is_empty() {
        format!("{attached} attached")
    } else {
        format!("{attached} attached, NOT ATTACHED: {}", missing.join(", "))
    }
}

/// Who writes the state of routes to the API server.
fn lease_line(lease: &LeaseStatus) -> String {
    let holder = match &*lease.holder {
        "" => "no agent",
        holder => holder,
    };
    let mut text = format!("state written to the API server by {holder}");
    if !lease.trouble.is_empty() {
        let _ = write!(text, "; TROUBLE: {}", lease.trouble);
    }
    text
}

fn heartbeat(overview: &Overview) -> String {
    let workers = usize::try_from(overview.workers).unwrap_or(usize::MAX);
    let workers = count(workers, "worker");
    let age = milliseconds(overview.heartbeat_age_ms);
    format!("{age} old, the oldest of {workers}")
}

fn snapshot(overview: &Overview) -> String {
    let age = milliseconds(overview.snapshot_age_ms);
    format!("version {}, {age} old", overview.snapshot_version)
}

fn source_line(source: &SourceStatus) -> String {
    let state = if source.synced {
        format!(
            "{}{}, last change {} ago",
            count(source.objects, "object"),
            kinds(source),
            milliseconds(source.last_change_ms)
        )
    } else {
        "not read yet".to_owned()
    };
    if source.trouble.is_empty() {
        format!("{}: {state}", source.name)
    } else {
        format!("{}: {state}; TROUBLE: {}", source.name, source.trouble)
    }
}

/// How many of the source's kinds are followed, where it has kinds.
fn kinds(source: &SourceStatus) -> String {
    if source.kinds.is_empty() {
        return String::new();
    }
    let synced = source.kinds.iter().filter(|kind| kind.state == "synced");
    format!(" of {}", count(synced.count(), "kind"))
}

/// A kind that is not synced: those that are say nothing new.
fn kind_line(kind: &KindStatus) -> String {
    let mut text = format!("{}: {}", kind.kind, kind.state);
    if kind.state != "absent" {
        let (age, objects) = (milliseconds(kind.since_ms), count(kind.objects, "object"));
        let _ = write!(text, " for {age}, {objects} in force");
    }
    if !kind.detail.is_empty() {
        let _ = write!(text, "; {}", kind.detail);
    }
    text
}

fn services(status: &Status) -> String {
    let proxied = status.overview.services_proxied;
    let passed = status.services.len().saturating_sub(proxied);
    let empty = status.services.iter();
    let empty = empty.filter(|service| service.mode != "pass" && service.endpoints == 0);
    let ports = count(proxied, "port");
    match empty.count() {
        0 => format!("{ports} proxied, {passed} left alone"),
        n => format!("{ports} proxied, {passed} left alone, {n} WITHOUT ENDPOINTS"),
    }
}

fn traffic(status: &Status) -> String {
    let overview = &status.overview;
    let sum = |field: fn(&crate::status::TrafficStatus) -> u64| -> u64 {
        let services = status.services.iter();
        services.map(|service| field(&service.traffic)).sum()
    };
    let (total, good) = (sum(|it| it.requests_total), sum(|it| it.success_total));
    let rate = match total {
        0 => String::new(),
        _ => format!(", {} good", percent(good as f64 / total as f64)),
    };
    format!(
        "{} requests{rate}, {} in flight, {} connections open",
        overview.requests_total,
        sum(|it| it.in_flight),
        overview.connections_open
    )
}

fn problem_counts(overview: &Overview) -> String {
    match (overview.errors, overview.warnings) {
        (0, 0) => "none".to_owned(),
        (errors, warnings) => {
            format!("{}, {}", count(errors, "error"), count(warnings, "warning"))
        }
    }
}

fn unknown_kinds(text: &mut String, kinds: &[String]) {
    if kinds.is_empty() {
        return;
    }
    let objects = count(kinds.len(), "object");
    line(
        text,
        "not read",
        &format!("{objects} of kinds that this version does not read"),
    );
    for kind in kinds.iter().take(MAX_UNKNOWN_KINDS) {
        line(text, "", kind);
    }
    let more = kinds.len().saturating_sub(MAX_UNKNOWN_KINDS);
    if more > 0 {
        line(text, "", &format!("and {more} more: status -o json"));
    }
}
