//! A load of requests from a pod, and the report about it.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::pod::Pod;
use crate::process::{Process, tool};
use crate::wait::until;

/// What to send: arguments of `e2e-http load`.
#[derive(Clone, Debug)]
pub struct Load {
    arguments: Vec<String>,
}

impl Load {
    /// Requests to a URL: one connection kept alive, until stopped.
    pub fn new(url: &str) -> Self {
        Self {
            arguments: vec!["load".to_owned(), "--url".to_owned(), url.to_owned()],
        }
    }

    /// This many requests in all.
    #[must_use]
    pub fn requests(self, count: u32) -> Self {
        self.set("--requests", &count.to_string())
    }

    /// Over this many connections at once.
    #[must_use]
    pub fn connections(self, count: u32) -> Self {
        self.set("--connections", &count.to_string())
    }

    /// Every request on a connection of its own.
    #[must_use]
    pub fn fresh(mut self) -> Self {
        self.arguments.push("--fresh".to_owned());
        self
    }

    /// HTTP/2 by prior knowledge.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.arguments.push("--http2".to_owned());
        self
    }

    /// HTTP/2 by prior knowledge, all of it on one connection.
    #[must_use]
    pub fn http2_on_one_connection(mut self) -> Self {
        self.arguments.push("--share".to_owned());
        self.http2()
    }

    /// A pause after every request of a connection.
    #[must_use]
    pub fn pause_ms(self, milliseconds: u32) -> Self {
        self.set("--pause-ms", &milliseconds.to_string())
    }

    /// One more header, `name: value`.
    #[must_use]
    pub fn header(self, header: &str) -> Self {
        self.with("--header", header)
    }

    /// How long one request may take, connect included; 10 s unless it is set.
    #[must_use]
    pub fn timeout_ms(self, milliseconds: u32) -> Self {
        self.set("--timeout-ms", &milliseconds.to_string())
    }

    /// What to call `e2e-http` with, where it runs in a place of its own.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Sets a flag that stands once; the last value counts.
    fn set(mut self, flag: &str, value: &str) -> Self {
        if let Some(at) = self.arguments.iter().position(|argument| argument == flag) {
            self.arguments.drain(at..at + 2);
        }
        self.with(flag, value)
    }

    fn with(mut self, flag: &str, value: &str) -> Self {
        self.arguments.extend([flag.to_owned(), value.to_owned()]);
        self
    }
}

/// What came of a load.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// Requests that were answered, with whatever status.
    pub answered: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Connections that were made.
    pub connects: u64,
    /// Answers by the pod that gave them.
    pub by_endpoint: BTreeMap<String, u64>,
    /// Answers by status code.
    pub by_status: BTreeMap<u16, u64>,
    /// Answers by the client address that the server saw.
    pub by_peer: BTreeMap<String, u64>,
    /// Answers by `x-proxy-agent-reason`; empty where it was absent.
    pub by_reason: BTreeMap<String, u64>,
    /// Answers by the time from the request to the end of the answer, in microseconds, rounded up by
    /// less than 1/64.
    #[serde(default)]
    pub by_latency_us: BTreeMap<u64, u64>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Every answer to a load of fresh connections.
    pub attempts: Vec<Attempt>,
}

/// A request without an answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Failure {
    /// When its connection was begun, Unix microseconds.
    pub connect_us: u64,
    /// When the request was begun, Unix microseconds.
    pub request_us: u64,
    /// `connect`, `handshake`, `request`, `body` or `timeout`.
    pub stage: String,
    /// The error.
    pub error: String,
}

/// A request that was answered, and when its connection was begun.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Attempt {
    /// When its connection was begun, Unix microseconds.
    pub connect_us: u64,
    /// When the answer was complete, Unix microseconds.
    pub done_us: u64,
    /// The pod that answered.
    pub endpoint: String,
}

impl Report {
    /// Requires `count` answers with status 200 and no failure.
    ///
    /// # Errors
    /// It was otherwise; the report is in the message.
    pub fn all_ok(&self, count: u64) -> Result<()> {
        ensure!(self.failures.is_empty(), "failures: {:?}", self.failures);
        let ok = self.by_status.get(&200).copied().unwrap_or_default();
        ensure!(
            ok == count && self.answered == count,
            "not {count} times 200: {self:?}"
        );
        Ok(())
    }

    /// Requires that something was answered, all with status 200, and nothing failed.
    ///
    /// # Errors
    /// It was otherwise; the report is in the message.
    pub fn flawless(&self) -> Result<()> {
        ensure!(self.answered > 0, "nothing was answered: {self:?}");
        self.all_ok(self.answered)
    }

    /// Answers of one pod.
    pub fn of(&self, endpoint: &str) -> u64 {
        self.by_endpoint.get(endpoint).copied().unwrap_or_default()
    }

    /// Counts an answer's time.
    pub fn note_latency(&mut self, us: u64) {
        let shift = (u64::BITS - us.leading_zeros()).saturating_sub(7);
        let rounded = ((us >> shift) + u64::from(shift > 0)) << shift;
        *self.by_latency_us.entry(rounded).or_default() += 1;
    }

    /// The time, in microseconds, that this share of the answers took at most; 0 without answers.
    pub fn latency_us(&self, share: f64) -> u64 {
        let all: u64 = self.by_latency_us.values().sum();
        let mut left = (all as f64 * share).ceil();
        let reached = self.by_latency_us.iter().find(|(_, count)| {
            left -= **count as f64;
            left <= 0.0
        });
        reached.map(|(us, _)| *us).unwrap_or_default()
    }

    /// Requests that failed, or were answered with another status than 200.
    pub fn errors(&self) -> u64 {
        let ok = self.by_status.get(&200).copied().unwrap_or_default();
        let failed = u64::try_from(self.failures.len()).unwrap_or(u64::MAX);
        (self.answered - ok).saturating_add(failed)
    }

    /// Adds another report's counts to this one's.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.answered += other.answered;
        self.body_bytes += other.body_bytes;
        self.connects += other.connects;
        merge(&mut self.by_endpoint, &other.by_endpoint);
        merge(&mut self.by_status, &other.by_status);
        merge(&mut self.by_peer, &other.by_peer);
        merge(&mut self.by_reason, &other.by_reason);
        merge(&mut self.by_latency_us, &other.by_latency_us);
        self.failures.extend(other.failures.iter().cloned());
        self.attempts.extend(other.attempts.iter().cloned());
        self
    }
}

fn merge<K: Clone + Ord>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key.clone()).or_default() += count;
    }
}

/// A load that is under way.
#[derive(Debug)]
pub struct Running {
    process: Process,
}

impl Running {
    pub(crate) fn start(pod: &Pod, load: &Load) -> Result<Self> {
        let mut command = Command::new(tool("e2e-http")?);
        command.args(&load.arguments);
        Ok(Self {
            process: pod.spawn("load", command)?,
        })
    }

    /// Waits until it has had `count` answers; each ten of them in their own time, as beside other loads on
    /// a slow machine all of them may take longer than one thing should.
    ///
    /// # Errors
    /// No more of them come.
    pub fn wait_answers(&self, count: usize) -> Result<()> {
        while self.answers() < count {
            let next = self.answers() + 10;
            until(&format!("the load has {next} answers"), || {
                Ok(self.answers() >= next)
            })
            .with_context(|| self.process.stderr())?;
        }
        Ok(())
    }

    /// How many answers it has had, in tens.
    pub fn answers(&self) -> usize {
        // The load generator writes one dot to standard error for every ten answers.
        self.process.stderr().matches('.').count() * 10
    }

    /// Ends a load that has no count of requests, and reads its report.
    ///
    /// # Errors
    /// The load generator failed.
    pub fn stop(self) -> Result<Report> {
        self.finish()
    }

    /// Waits for the end of a load with a count of requests, and reads its report.
    ///
    /// # Errors
    /// The load generator failed.
    pub fn finish(self) -> Result<Report> {
        let report = self.process.finish()?.success()?;
        serde_json::from_str(&report).with_context(|| format!("the load's report: {report}"))
    }
}

/// Now, in Unix microseconds: the clock of [`Failure`] and [`Attempt`].
pub fn now_us() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_rounded_up_by_little_and_counted() {
        let mut report = Report::default();
        for us in 1..=10_000 {
            report.note_latency(us);
        }

        for (share, exact) in [(0.5, 5_000), (0.99, 9_900), (0.001, 10)] {
            let us = report.latency_us(share);
            assert!((exact..=exact + exact / 64).contains(&us), "{share}: {us}");
        }
        assert_eq!(Report::default().latency_us(0.99), 0);
    }
}
