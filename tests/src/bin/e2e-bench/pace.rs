//! Requests at a constant rate, one thread for each connection.
//!
//! A request that could not be sent when it was due, since the one before it was still under way,
//! counts from when it was due: a path that stalls is not spared the requests that it held up
//! ("coordinated omission"). The generator's own late wake-ups do not count.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use hyper::Uri;
use serde_json::json;

use crate::get::Connection;

/// Before the first request: every connection is open by then.
const LEAD: Duration = Duration::from_millis(100);

/// Arguments of `pace`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// What to get.
    #[arg(long)]
    url: Uri,
    /// Requests a second, over all connections.
    #[arg(long)]
    rate: u32,
    /// Connections, each with its share of the rate.
    #[arg(long)]
    connections: u32,
    /// How long.
    #[arg(long)]
    seconds: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let begin = Instant::now() + LEAD;
    let mut threads = Vec::new();
    for index in 0..options.connections {
        let connection = Connection::open(&options.url)?;
        let schedule = Schedule::new(options, begin, index);
        threads.push(thread::spawn(move || schedule.keep(connection)));
    }
    let mut latencies = Vec::new();
    for thread in threads {
        let kept = thread
            .join()
            .map_err(|_panic| anyhow!("a connection's thread died"))?;
        latencies.extend(kept?);
    }
    latencies.sort_unstable();
    let at = |share: usize| latencies.get(latencies.len() * share / 100);
    let (p50, p99) = at(50).zip(at(99)).context("no request was sent")?;
    let report = json!({
        "requests": latencies.len(),
        "p50_us": p50.as_secs_f64() * 1e6,
        "p99_us": p99.as_secs_f64() * 1e6,
    });
    writeln!(io::stdout(), "{report}")?;
    Ok(())
}

/// When one connection's requests are due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    first: Instant,
    every: Duration,
    count: u32,
}

impl Schedule {
    fn new(options: &Options, begin: Instant, index: u32) -> Self {
        let between = Duration::from_secs(1) / options.rate;
        let every = between * options.connections;
        Self {
            first: begin + between * index,
            every,
            count: options.seconds * options.rate / options.connections,
        }
    }

    /// Sends what is due when it is due; returns the latencies.
    fn keep(self, mut connection: Connection) -> Result<Vec<Duration>> {
        nix::sys::prctl::set_timerslack(1).context("wake up in time")?;
        let mut latencies = Vec::new();
        for number in 0..self.count {
            let due = self.first + self.every * number;
            let early = due.saturating_duration_since(Instant::now());
            let counted_from = if early.is_zero() {
                due
            } else {
                thread::sleep(early);
                Instant::now()
            };
            connection.get()?;
            latencies.push(counted_from.elapsed());
        }
        Ok(latencies)
    }
}
