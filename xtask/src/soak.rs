//! `cargo xtask soak`: a cluster that keeps changing under load, and what that leaves behind.
//!
//! Pods, endpoints and routes change all the time; pods on every node send requests. Nothing may
//! fail but requests to endpoints that are killed without grace, and what the agents hold when it
//! is quiet again must be what they held before.

mod churn;
mod verdict;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proxy_e2e::{Load, Report};

use crate::installed::api::Stop;
use crate::installed::footprint::Footprint;
use crate::installed::pod_load::PodLoad;
use crate::installed::{Installed, Place};
use churn::Changes;
use verdict::Verdict;

/// `cargo xtask soak`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// How long it goes on after the warm-up.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Changes of endpoints, routes and pods together.
    #[arg(long, default_value_t = 50.0)]
    changes_per_second: f64,
    /// Seconds of the same before that, in which buffers, pools and caches get their sizes.
    #[arg(long, default_value_t = 30)]
    warm_up: u64,
    /// The share of these changes that has to come about.
    #[arg(long, default_value_t = 0.95)]
    least: f64,
}

impl Args {
    /// A minute, on the cluster in this folder, with the agent of this archive: what CI has time for.
    /// How many changes a machine that others use gets done is no fault of the agent's.
    pub(crate) fn short(folder: PathBuf, image: PathBuf) -> Self {
        Self {
            place: Place::there(folder, image),
            minutes: 1.0,
            changes_per_second: 20.0,
            warm_up: 15,
            least: 0.0,
        }
    }
}

/// Connections of one load, at most.
const MOST_AT_ONCE: u32 = 4;
const NAMESPACE: &str = "soak";
const NODES: u8 = 2;
/// Between two looks at the agents.
const INTERVAL: Duration = Duration::from_secs(5);
/// What was left behind may take this long to go: the sweep of flows comes after 60 s.
const SETTLING: Duration = Duration::from_secs(120);

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let installed = Installed::on(&args.place, NODES, &[])?;
    installed.stage(NAMESPACE, include_str!("soak/stage.yaml"))?;
    println!("soak: warming up for {} s", args.warm_up);
    let warm_up = Duration::from_secs(args.warm_up);
    round(&installed, args, warm_up)?;
    let before = at_rest(&installed, |seen| {
        // Nothing to compare with yet: quiet is what no longer shrinks.
        thread::sleep(INTERVAL);
        let later = footprints(&installed)?;
        let shrinks = |(a, b): (&Footprint, &Footprint)| b.descriptors < a.descriptors;
        Ok(!seen.iter().zip(&later).any(shrinks))
    })?;
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    println!(
        "soak: {} changes a second for {} s",
        args.changes_per_second,
        time.as_secs()
    );
    let round = round(&installed, args, time)?;
    let after = at_rest(&installed, |seen| {
        Ok(verdict::leaks(&before, seen).is_empty())
    })?;
    let verdict = Verdict {
        round,
        before,
        after,
    };
    println!("\n{verdict}");
    installed.clear(NAMESPACE)?;
    let faults = verdict.faults();
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{}", faults.join("; "))
}

/// What came of a time of change and load.
#[derive(Debug)]
struct Round {
    took: Duration,
    changes: Changes,
    /// Changes a second that there have to be.
    least: f64,
    /// Of requests to pods that end gracefully.
    steady: Report,
    /// Of requests to pods that never end, while endpoints are added and removed.
    still: Report,
    /// Of requests to pods that are killed.
    frail: Report,
    /// Requests to them that can be on their way at a moment.
    at_once: u64,
    /// Connections that the hooks sent through the agents meanwhile.
    proxied: u64,
    /// The most memory that an agent used, KiB.
    peak_kib: u64,
}

fn round(installed: &Installed, args: &Args, time: Duration) -> Result<Round> {
    let proxied = || -> Result<u64> {
        let agents = installed.agents.iter();
        agents.map(|agent| agent.outcome("proxied")).sum()
    };
    let (begun, proxied_before) = (Instant::now(), proxied()?);
    let steady = loads(installed, "steady")?;
    let still = loads(installed, "still")?;
    let frail = loads(installed, "frail")?;
    let at_once = frail.len() as u64 * u64::from(MOST_AT_ONCE);
    let stop = Stop::default();
    let cluster = &installed.cluster;
    let (changes, peak_kib) = thread::scope(|scope| {
        let churning = scope.spawn(|| {
            let churned = churn::run(cluster, args.changes_per_second, &stop);
            // Not before the end of the round, unless it failed.
            churned.inspect_err(|_| stop.tell())
        });
        let watched = watch(installed, begun + time, &stop);
        stop.tell();
        let churned = churning.join().unwrap_or_else(|_| bail!("panic"));
        anyhow::Ok((churned.context("change objects")?, watched?))
    })?;
    Ok(Round {
        took: begun.elapsed(),
        changes,
        least: args.changes_per_second * args.least,
        steady: sum(steady)?,
        still: sum(still)?,
        frail: sum(frail)?,
        at_once,
        proxied: proxied()? - proxied_before,
        peak_kib,
    })
}

/// Requests from every client pod: on connections that are kept, and on new ones.
fn loads(installed: &Installed, service: &str) -> Result<Vec<PodLoad>> {
    let url = format!("http://{}/", installed.cluster_ip(NAMESPACE, service)?);
    let kept = Load::new(&url).connections(MOST_AT_ONCE).pause_ms(40);
    let fresh = Load::new(&url).connections(2).pause_ms(80).fresh();
    let clients = ["get", "pods", "-n", NAMESPACE, "-l", "app=client"];
    let clients = installed
        .cluster
        .kubectl(clients.iter().chain(&["-o", "name"]))?;
    let clients = clients.lines().map(|name| name.trim_start_matches("pod/"));
    let loads = clients.flat_map(|pod| [(pod, &kept), (pod, &fresh)]);
    loads
        .map(|(pod, load)| PodLoad::start(&installed.cluster, (NAMESPACE, pod), load))
        .collect()
}

fn sum(loads: Vec<PodLoad>) -> Result<Report> {
    let mut all = Report::default();
    for load in loads {
        all = all.and(&load.finish()?);
    }
    Ok(all)
}

/// Looks at the agents until it is time, or told to stop; the most memory that one used.
fn watch(installed: &Installed, until: Instant, stop: &Stop) -> Result<u64> {
    let (begun, mut peak_kib) = (Instant::now(), 0);
    while Instant::now() < until && !stop.told() {
        let left = until.saturating_duration_since(Instant::now());
        thread::sleep(left.min(INTERVAL));
        for (agent, seen) in installed.agents.iter().zip(footprints(installed)?) {
            println!(
                "soak: {:>4} s, node{}: {seen}",
                begun.elapsed().as_secs(),
                agent.node
            );
            peak_kib = peak_kib.max(seen.resident_kib);
        }
    }
    Ok(peak_kib)
}

/// What the agents hold when nothing changes any more; waits until `enough` says that it is so, but
/// not for ever.
fn at_rest(
    installed: &Installed,
    enough: impl Fn(&[Footprint]) -> Result<bool>,
) -> Result<Vec<Footprint>> {
    churn::restore(&installed.cluster)?;
    installed.settle(NAMESPACE)?;
    let deadline = Instant::now() + SETTLING;
    loop {
        let terminating = installed.cluster.kubectl([
            "get",
            "pods",
            "-n",
            NAMESPACE,
            "--no-headers",
            "-o",
            "custom-columns=AT:.metadata.deletionTimestamp",
        ])?;
        let quiet = terminating.lines().all(|line| line == "<none>");
        let seen = footprints(installed)?;
        if (quiet && enough(&seen)?) || Instant::now() > deadline {
            return Ok(seen);
        }
        thread::sleep(Duration::from_secs(1));
    }
}

fn footprints(installed: &Installed) -> Result<Vec<Footprint>> {
    let agents = installed.agents.iter();
    agents.map(|agent| agent.footprint()).collect()
}
