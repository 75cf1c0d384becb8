//! The load that runs in pods all the time, and what became of its requests.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::scene::Scene;

/// Every load: node and container. `kept` keeps its connection, `fresh` makes one for each request.
/// A call of `streams` takes a second.
pub(crate) const LOADS: [(u8, &str); 8] = [
    (1, "kept"),
    (1, "fresh"),
    (1, "grpc"),
    (1, "streams"),
    (2, "kept"),
    (2, "fresh"),
    (2, "grpc"),
    (2, "streams"),
];

/// One request of a load.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Microseconds after 1970.
    pub(crate) at_us: u128,
    /// `200`, another status, or `error`.
    pub(crate) outcome: String,
    /// The pod that answered, or the error.
    pub(crate) detail: String,
}

/// Microseconds after 1970, on the one clock of machine and pods.
pub(crate) fn now_us() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or(Duration::ZERO).as_micros()
}

/// What a load sent since then.
pub(crate) fn since(
    scene: &Scene,
    (node, container): (u8, &str),
    at_us: u128,
) -> Result<Vec<Sent>> {
    let pod = format!("load-node{node}");
    let log = scene
        .cluster
        .kubectl(["logs", "-n", "mesh", &pod, "-c", container])?;
    let sent = log.lines().map(parse).collect::<Result<Vec<_>>>()?;
    Ok(sent
        .into_iter()
        .filter(|sent| sent.at_us >= at_us)
        .collect())
}

fn parse(line: &str) -> Result<Sent> {
    let mut words = line.splitn(3, ' ');
    let mut word = || {
        words
            .next()
            .with_context(|| format!("a line of the load: {line}"))
    };
    Ok(Sent {
        at_us: word()?.parse().context("a time")?,
        outcome: word()?.to_owned(),
        detail: word()?.to_owned(),
    })
}

/// How many requests of each load went well, and what became of the others.
#[derive(Debug, Default)]
pub(crate) struct Toll {
    answered: BTreeMap<(u8, &'static str), usize>,
    failed: Vec<(u8, &'static str, Sent)>,
}

impl Toll {
    /// Of these loads, since then.
    pub(crate) fn since(scene: &Scene, loads: &[(u8, &'static str)], at_us: u128) -> Result<Self> {
        let mut toll = Self::default();
        for &(node, container) in loads {
            let (good, bad): (Vec<_>, Vec<_>) = since(scene, (node, container), at_us)?
                .into_iter()
                .partition(|sent| sent.outcome == "200");
            toll.answered.insert((node, container), good.len());
            let bad = bad.into_iter().map(|sent| (node, container, sent));
            toll.failed.extend(bad);
        }
        Ok(toll)
    }

    /// Requires that requests were sent by each load and that all were answered.
    pub(crate) fn ensure_flawless(&self) -> Result<()> {
        ensure!(self.failed.is_empty(), "{self}");
        let idle = self.answered.values().any(|count| *count == 0);
        ensure!(!idle, "a load did not run: {self}");
        Ok(())
    }

    /// How many requests failed.
    pub(crate) fn failed(&self) -> usize {
        self.failed.len()
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((node, container), count) in &self.answered {
            write!(f, "node{node} {container}: {count} answered; ")?;
        }
        write!(f, "{} failed", self.failed.len())?;
        for (node, container, sent) in self.failed.iter().take(10) {
            let Sent {
                at_us,
                outcome,
                detail,
            } = sent;
            write!(
                f,
                "\n  node{node} {container} at {at_us}: {outcome} {detail}"
            )?;
        }
        Ok(())
    }
}
