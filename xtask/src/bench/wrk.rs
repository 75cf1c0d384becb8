//! HTTP/1.1 by wrk, in the client's pod.

use anyhow::{Context, Result, ensure};

use super::figures::{Measure, Sample};
use super::load::{cpu_per_request, with_unit};
use super::scenario::Scenario;
use super::work::Work;

/// Connections that are kept open.
const CONNECTIONS: &str = "32";

/// One run.
pub(super) fn run(scenario: &Scenario, work: Work, seconds: u32) -> Result<Sample> {
    let duration = format!("{seconds}s");
    let url = scenario.url(work);
    let (threads, connections) = if work == Work::Hook {
        ("1", "1")
    } else {
        ("2", CONNECTIONS)
    };
    let mut arguments = vec!["-t", threads, "-c", connections];
    arguments.extend(["-d", &duration, "--latency"]);
    if work.is_of_new_connections() {
        arguments.extend(["-H", "Connection: close"]);
    }
    arguments.push(&url);
    let run = || scenario.client.run("wrk", &arguments)?.success();
    let (output, cpu_us) = cpu_per_request(scenario, run, requests)?;
    let mut sample = parse(&output).with_context(|| format!("wrk said:\n{output}"))?;
    sample.extend(cpu_us);
    Ok(sample)
}

fn requests(output: &str) -> Option<f64> {
    let line = output.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok()
}

fn parse(output: &str) -> Result<Sample> {
    let after = |label: &str| {
        let line = output
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        line.map(str::trim)
            .with_context(|| format!("no line {label:?}"))
    };
    let failed = failures(output);
    ensure!(failed == 0, "{failed} failures");
    Ok(vec![
        (
            Measure::RequestsPerS,
            after("Requests/sec:")?.parse().context("requests/s")?,
        ),
        (Measure::P50Us, duration_us(after("50%")?)?),
        (Measure::P99Us, duration_us(after("99%")?)?),
        (Measure::BytesPerS, size_bytes(after("Transfer/sec:")?)?),
    ])
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
    let units = [
        ("GB", 1_024.0 * mega),
        ("MB", mega),
        ("KB", 1_024.0),
        ("B", 1.0),
    ];
    with_unit(text, &units)
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
Requests/sec:  40000.00
Transfer/sec:      8.00MB
";

    #[test]
    fn the_output_of_wrk_is_read() -> Result<()> {
        let expected = vec![
            (Measure::RequestsPerS, 40_000.0),
            (Measure::P50Us, 750.0),
            (Measure::P99Us, 2_500.0),
            (Measure::BytesPerS, 8_388_608.0),
        ];
        assert_eq!(parse(OUTPUT)?, expected);
        assert_eq!(requests(OUTPUT), Some(200_000.0));
        Ok(())
    }

    #[test]
    fn failures_are_not_measured() {
        let errors = "  Socket errors: connect 0, read 3, write 0, timeout 1\n";
        assert!(parse(&format!("{OUTPUT}{errors}")).is_err());
    }
}
