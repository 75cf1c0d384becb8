//! One sample: wrk in the client's pod, the proxy's CPU time before and after.

use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;

use super::scenario::{Kind, Scenario};
use crate::process::{Threads, cpu_us};

/// Connections that wrk keeps open.
const CONNECTIONS: &str = "32";

/// What the client does.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Work {
    /// Small answers on connections that are kept.
    KeepAlive,
    /// 1 MiB answers on connections that are kept.
    LargeBodies,
    /// A connection for each request.
    NewConnections,
}

impl Work {
    pub(super) const ALL: &[Self] = &[Self::KeepAlive, Self::LargeBodies, Self::NewConnections];
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeepAlive => "keep-alive",
            Self::LargeBodies => "1 MiB bodies",
            Self::NewConnections => "new connections",
        })
    }
}

/// What one run of wrk showed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) kind: Kind,
    pub(super) work: Work,
    /// Requests that were answered with 2xx or 3xx, per second.
    pub(super) requests_per_s: f64,
    /// Median latency, microseconds.
    pub(super) p50_us: f64,
    /// 99th percentile, microseconds.
    pub(super) p99_us: f64,
    /// Bytes that were read, per second.
    pub(super) bytes_per_s: f64,
    /// CPU time of the proxy per request, microseconds; 0 without a proxy.
    pub(super) proxy_cpu_us: f64,
    /// Requests or connections that failed.
    pub(super) failed: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            work,
            requests_per_s,
            p50_us,
            p99_us,
            proxy_cpu_us,
            failed,
            ..
        } = self;
        write!(
            f,
            "{work}, {kind}: {requests_per_s:.0} requests/s, p50 {p50_us:.0} µs, \
             p99 {p99_us:.0} µs, proxy CPU {proxy_cpu_us:.1} µs a request, {failed} failed"
        )
    }
}

/// Runs wrk for so many seconds.
pub(super) fn sample(scenario: &Scenario, work: Work, seconds: u32) -> Result<Sample> {
    let duration = format!("{seconds}s");
    let url = match work {
        Work::LargeBodies => scenario.url_of("files/large"),
        Work::KeepAlive | Work::NewConnections => scenario.url_of(""),
    };
    let mut arguments = vec!["-t", "2", "-c", CONNECTIONS, "-d", &duration, "--latency"];
    if work == Work::NewConnections {
        arguments.extend(["-H", "Connection: close"]);
    }
    arguments.push(&url);
    let cpu = || {
        scenario
            .proxy_pid()
            .map_or(Ok(0.0), |pid| cpu_us(pid, Threads::All))
    };
    let before = cpu()?;
    let output = scenario.client.run("wrk", &arguments)?.success()?;
    let used = cpu()? - before;
    parse(&output, scenario.kind, work, used).with_context(|| format!("wrk said:\n{output}"))
}

fn parse(output: &str, kind: Kind, work: Work, cpu_us: f64) -> Result<Sample> {
    let after = |label: &str| {
        let line = output
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        line.map(str::trim)
            .with_context(|| format!("no line {label:?}"))
    };
    let requests = output.lines().find(|line| line.contains(" requests in "));
    let requests: f64 = requests
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("no count of requests")?;
    let number = |text: &str| text.parse::<f64>().with_context(|| format!("{text:?}"));
    Ok(Sample {
        kind,
        work,
        requests_per_s: number(after("Requests/sec:")?)?,
        p50_us: duration_us(after("50%")?)?,
        p99_us: duration_us(after("99%")?)?,
        bytes_per_s: size_bytes(after("Transfer/sec:")?)?,
        proxy_cpu_us: if requests > 0.0 {
            cpu_us / requests
        } else {
            0.0
        },
        failed: failures(output),
    })
}

/// wrk prints these lines only where something failed.
fn failures(output: &str) -> u64 {
    let numbers = |line: &str| -> u64 {
        line.split([' ', ','])
            .filter_map(|word| word.parse::<u64>().ok())
            .sum()
    };
    let errors = output.lines().filter(|line| {
        line.contains("Socket errors:") || line.contains("Non-2xx or 3xx responses:")
    });
    errors.map(numbers).sum()
}

/// `1.23ms` and its like, in microseconds.
fn duration_us(text: &str) -> Result<f64> {
    with_unit(text, &[("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)])
}

/// `1.23MB` and its like; wrk's units are powers of 1,024.
fn size_bytes(text: &str) -> Result<f64> {
    let mega = 1_048_576.0;
    with_unit(
        text,
        &[
            ("GB", 1_024.0 * mega),
            ("MB", mega),
            ("KB", 1_024.0),
            ("B", 1.0),
        ],
    )
}

fn with_unit(text: &str, units: &[(&str, f64)]) -> Result<f64> {
    let found = units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    });
    found.with_context(|| format!("{text:?} is no quantity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 5s test @ http://10.96.0.10:80/
  2 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   800.00us    0.10ms  10.00ms   90.00%
  Latency Distribution
     50%  750.00us
     75%    0.90ms
     90%    1.10ms
     99%    2.50ms
  200000 requests in 5.00s, 40.00MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
Requests/sec:  40000.00
Transfer/sec:      8.00MB
";

    #[test]
    fn the_output_of_wrk_is_read() -> Result<()> {
        let sample = parse(OUTPUT, Kind::Agent, Work::KeepAlive, 4_000_000.0)?;

        assert!((sample.requests_per_s - 40_000.0).abs() < 1e-6);
        assert!((sample.p50_us - 750.0).abs() < 1e-6);
        assert!((sample.p99_us - 2_500.0).abs() < 1e-6);
        assert!((sample.bytes_per_s - 8_388_608.0).abs() < 1e-6);
        assert!((sample.proxy_cpu_us - 20.0).abs() < 1e-6);
        assert_eq!(sample.failed, 4);
        Ok(())
    }
}
