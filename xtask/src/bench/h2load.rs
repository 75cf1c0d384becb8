//! HTTP/2 and gRPC by h2load, in the client's pod.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::figures::{Measure, Sample};
use super::load::cpu_per_request;
use super::scenario::Scenario;
use super::work::Work;

/// Connections, and streams on each at a time: as many requests at once as on HTTP/1.1.
const CONNECTIONS: &str = "8";
const STREAMS: &str = "4";
/// Bytes of a gRPC message.
const MESSAGE_BYTES: usize = 36;

/// One run.
pub(super) fn run(scenario: &Scenario, work: Work, seconds: u32) -> Result<Sample> {
    let duration = seconds.to_string();
    let mut arguments = vec!["-t", "2", "-c", CONNECTIONS, "-m", STREAMS, "-D", &duration];
    let message = scenario.node.scratch().join("message");
    let message = message.to_str().context("a path in UTF-8")?;
    if work == Work::Grpc {
        fs::write(message, framed(&[b'x'; MESSAGE_BYTES])?)?;
        arguments.extend(["-H", "content-type: application/grpc"]);
        arguments.extend(["-H", "te: trailers", "-d", message]);
    }
    let url = scenario.url(work);
    arguments.push(&url);
    let run = || scenario.client.run("h2load", &arguments)?.success();
    let (output, cpu_us) = cpu_per_request(scenario, run, |output| counts(output).map(|c| c.done))?;
    let said = || format!("h2load said:\n{output}");
    let counts = counts(&output).with_context(said)?;
    ensure!(
        counts.failed == 0.0,
        "{} failures; {}",
        counts.failed,
        said()
    );
    // A gRPC call that failed is an answer without a message, and a 200.
    let least = counts.done * MESSAGE_BYTES as f64;
    ensure!(
        counts.data_bytes >= least,
        "answers without a body; {}",
        said()
    );
    let mut sample = vec![(Measure::RequestsPerS, counts.per_s)];
    sample.extend(cpu_us);
    Ok(sample)
}

/// A message as gRPC frames it: not compressed, its length, itself.
fn framed(message: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(message.len())?.to_be_bytes();
    Ok([&[0], &length[..], message].concat())
}

/// What a run of h2load counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counts {
    done: f64,
    pub(crate) failed: f64,
    pub(crate) per_s: f64,
    data_bytes: f64,
}

pub(crate) fn counts(output: &str) -> Option<Counts> {
    let line = |label: &str| output.lines().find_map(|line| line.strip_prefix(label));
    // `12 done, 12 succeeded`: the number before its name.
    let named = |line: &str, name: &str| -> Option<f64> {
        let part = line.split(", ").find(|part| part.ends_with(name))?;
        part.split_whitespace().next()?.parse().ok()
    };
    let requests = line("requests: ")?;
    let finished = line("finished in ")?;
    let traffic = line("traffic: ")?;
    let data = traffic.split(", ").find(|part| part.ends_with(" data"))?;
    let data = data.split(['(', ')']).nth(1)?;
    Some(Counts {
        done: named(requests, " done")?,
        failed: named(requests, " failed")?
            + named(requests, " errored")?
            + named(requests, " timeout")?,
        per_s: named(finished, " req/s")?,
        data_bytes: data.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "starting benchmark...
finished in 2.00s, 45210.50 req/s, 2.20MB/s
requests: 90421 total, 90453 started, 90421 done, 90421 succeeded, 1 failed, 2 errored, 3 timeout
status codes: 90421 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 4.40MB (4611471) total, 796.13KB (815237) headers (space savings 92.80%), 3.10MB (3255156) data
                     min         max         mean         sd        +/- sd
";

    #[test]
    fn the_output_of_h2load_is_read() {
        let expected = Counts {
            done: 90_421.0,
            failed: 6.0,
            per_s: 45_210.5,
            data_bytes: 3_255_156.0,
        };
        assert_eq!(counts(OUTPUT), Some(expected));
        assert_eq!(counts("nothing"), None);
    }
}
