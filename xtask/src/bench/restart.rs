//! How long pods go uncaptured when the agent is started anew.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use proxy_e2e::{AgentOptions, Node};

/// Starts; the median is reported.
const STARTS: usize = 11;

/// Median time from the start of the process until a pod that was there is captured, milliseconds.
/// Looking for that state is part of it.
pub(super) fn captured_again_ms(agent: &Path) -> Result<f64> {
    let node = Node::new()?;
    let client = node.pod("client").captured().start()?;
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let begun = Instant::now();
        let agent = AgentOptions::new(&node).binary(agent).log("warn").start()?;
        agent.wait_captured([&client])?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[STARTS / 2])
}
