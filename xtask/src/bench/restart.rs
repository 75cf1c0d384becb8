//! How long pods go uncaptured when the agent is started anew.

use std::time::Instant;

use anyhow::Result;
use proxy_e2e::{AgentOptions, Node};

use super::figures::{Measure, Sample};
use super::scenario::Programs;

/// Starts; each is a sample.
const STARTS: usize = 11;

/// Times from the start of the process until a pod that was there is captured. Looking for that
/// state is part of it.
pub(super) fn run(programs: &Programs) -> Result<Vec<Sample>> {
    let node = Node::new()?;
    let client = node.pod("client").captured().start()?;
    let mut samples = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let begun = Instant::now();
        let options = AgentOptions::new(&node).binary(&programs.agent);
        let agent = options.log("warn").start()?;
        agent.wait_captured([&client])?;
        let elapsed_ms = begun.elapsed().as_secs_f64() * 1e3;
        samples.push(vec![(Measure::ElapsedMs, elapsed_ms)]);
    }
    Ok(samples)
}
