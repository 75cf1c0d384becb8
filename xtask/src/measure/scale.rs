//! `cargo xtask measure scale`: a large configuration that changes all the time.
//!
//! Services, EndpointSlices and Pods are made through the API server, without anything behind them.
//! Then rounds of three windows: nothing changes; objects change that no agent reads, which costs
//! the API server the same; endpoints change. The last two tell the agent's part from the machine's. All
//! of it twice: on processors that everybody shares; and with the control plane and the changes on
//! one of them, the node and its pods on the others, as where the control plane has its own machine.

mod many;

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use proxy_e2e::{Load, until_some_within};

use crate::bench::Spread;
use crate::installed::api::Stop;
use crate::installed::footprint::Agent;
use crate::installed::pod_load::PodLoad;
use crate::installed::{Installed, Place};
use many::{Change, Many};

/// `cargo xtask measure scale`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    many: Many,
    /// Changes of endpoints a second.
    #[arg(long, default_value_t = 200.0)]
    changes_per_second: f64,
    /// Rounds of three windows each, for each way to share the processors.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Length of a window.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

const NAMESPACE: &str = "scale";
/// The machine's processors are one node's: a second agent would only take from the first.
const NODES: u8 = 1;
/// For the agent to take in all objects.
const PATIENCE: Duration = Duration::from_secs(300);
/// After an agent has taken something in, and before a window.
const REST: Duration = Duration::from_secs(3);

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<()> {
    let installed = Installed::on(&args.place, NODES, &[])?;
    installed.stage(NAMESPACE, include_str!("scale.yaml"))?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "pod/client",
        "-n",
        NAMESPACE,
    ];
    installed.cluster.kubectl(ready)?;
    // With so many Services it would need the machine for itself, whatever agent there is.
    installed.cluster.stop_kube_proxy(1)?;
    // It reads every EndpointSlice too, on the node, which would count as the agent's doing.
    let no_dns = [
        "scale",
        "deployment/coredns",
        "--replicas=0",
        "-n",
        "kube-system",
    ];
    installed.cluster.kubectl(no_dns)?;
    let agent = installed.agents.first().context("an agent")?;
    thread::sleep(REST);
    println!("scale: empty: {}", State::of(agent)?);
    let (begun, cpu_before) = (Instant::now(), agent.control_us()?);
    args.many.create(&installed.cluster)?;
    println!("scale: {} made in {:.0?}", args.many, begun.elapsed());
    let services = u64::from(args.many.services);
    until_some_within(PATIENCE, "the agent has taken in every Service", || {
        let frontends = agent.footprint()?.entries.get("FRONTENDS").copied();
        Ok((frontends.unwrap_or_default() >= services).then_some(()))
    })?;
    let cpu_s = (agent.control_us()? - cpu_before) / 1e6;
    let took = begun.elapsed();
    println!("scale: in effect after {took:.0?}, for {cpu_s:.1} s of processor time");
    thread::sleep(REST);
    println!("scale: full: {}", State::of(agent)?);
    println!("scale: {}", Answers::of(agent)?);
    let shared = rounds(&installed, args, "shared processors")?;
    let apart = installed.cluster.keep_apart()?;
    let separate = rounds(&installed, args, "control plane apart")?;
    drop(apart);
    println!("scale: after it: {}", State::of(agent)?);
    println!("\nprocessors shared by all:\n{}", Summary(&shared));
    println!(
        "control plane on a processor of its own:\n{}",
        Summary(&separate)
    );
    Ok(())
}

fn rounds(installed: &Installed, args: &Args, design: &str) -> Result<Vec<Window>> {
    let mut windows = Vec::new();
    for round in 1..=args.rounds {
        for change in Change::ALL {
            let window = window(installed, args, change)?;
            println!("scale: {design}, round {round}, {window}");
            windows.push(window);
        }
    }
    Ok(windows)
}

/// What an agent needs.
struct State {
    resident_kib: u64,
    maps_kib: u64,
    entries: u64,
}

impl State {
    fn of(agent: &Agent) -> Result<Self> {
        Ok(Self {
            resident_kib: agent.resident_kib()?,
            maps_kib: agent.maps_kib()?,
            entries: agent.footprint()?.entries.values().sum(),
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            resident_kib,
            maps_kib,
            entries,
        } = self;
        write!(
            f,
            "{} MiB resident, {entries} map entries in {maps_kib} KiB of maps",
            resident_kib / 1_024
        )
    }
}

/// How long the agent takes to show its state, and how long that is.
struct Answers(Vec<(&'static str, usize, Duration)>);

impl Answers {
    /// Medians of five.
    fn of(agent: &Agent) -> Result<Self> {
        let asked = ["/status/services", "/status/endpoints", "/status"].map(|path| {
            let mut size = 0;
            let mut took = Vec::new();
            for _ in 0..5 {
                let begun = Instant::now();
                size = agent.page(path)?.len();
                took.push(begun.elapsed());
            }
            took.sort();
            anyhow::Ok((path, size, took[took.len() / 2]))
        });
        asked.into_iter().collect::<Result<_>>().map(Self)
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (path, size, took)) in self.0.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}{path}: {} KiB in {took:.0?}", size / 1_024)?;
        }
        Ok(())
    }
}

/// One window.
struct Window {
    change: Change,
    changes_per_second: f64,
    p50_us: u64,
    p99_us: u64,
    requests_per_second: f64,
    /// Share of one processor that the agent's control side used.
    control: f64,
    resident_kib: u64,
}

fn window(installed: &Installed, args: &Args, change: Change) -> Result<Window> {
    thread::sleep(REST);
    let agent = installed.agents.first().context("an agent")?;
    let url = format!("http://{}/", installed.cluster_ip(NAMESPACE, "server")?);
    let load = Load::new(&url).connections(4).pause_ms(10);
    let stop = Stop::default();
    let (cluster, many, rate) = (&installed.cluster, &args.many, args.changes_per_second);
    thread::scope(|scope| {
        let changing = scope.spawn(|| many.change(cluster, change, rate, &stop));
        let measured = || {
            // The pace is reached before the load begins.
            thread::sleep(REST);
            let load = PodLoad::start(cluster, (NAMESPACE, "client"), &load)?;
            let (begun, cpu_before) = (Instant::now(), agent.control_us()?);
            thread::sleep(Duration::from_secs(args.seconds));
            let took = begun.elapsed().as_secs_f64();
            let control_us = agent.control_us()? - cpu_before;
            let report = load.finish()?;
            report.flawless()?;
            anyhow::Ok((report, control_us / 1e6 / took, took))
        };
        let measured = measured();
        stop.tell();
        let changed = changing.join().unwrap_or_else(|_| bail!("panic"));
        let ((report, control, took), changes_per_second) = (measured?, changed?);
        Ok(Window {
            change,
            changes_per_second,
            p50_us: report.latency_us(0.5),
            p99_us: report.latency_us(0.99),
            requests_per_second: report.answered as f64 / took,
            control,
            resident_kib: agent.resident_kib()?,
        })
    })
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {:.0} changes/s, {:.0} requests/s, p50 {} µs, p99 {} µs, control side {:.1} % of a \
             processor, {} MiB",
            self.change,
            self.changes_per_second,
            self.requests_per_second,
            self.p50_us,
            self.p99_us,
            self.control * 100.0,
            self.resident_kib / 1_024
        )
    }
}

/// Medians over the rounds.
struct Summary<'a>(&'a [Window]);

impl Summary<'_> {
    fn windows(&self, change: Change) -> impl Iterator<Item = &Window> {
        let windows = self.0.iter();
        windows.filter(move |window| window.change == change)
    }

    fn median(&self, change: Change, of: impl Fn(&Window) -> f64) -> f64 {
        median(self.windows(change).map(of))
    }

    /// How many times the p99 of `to` that of changing endpoints is, each round for itself: whatever else
    /// the machine does in a round hits both.
    fn slowdown(&self, to: Change) -> f64 {
        let rounds = self.windows(Change::Endpoints).zip(self.windows(to));
        median(rounds.map(|(churning, other)| churning.p99_us as f64 / other.p99_us as f64))
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in Change::ALL {
            writeln!(
                f,
                "{:<22} p50 {:>6.0} µs, p99 {:>6.0} µs, control side {:>5.1} %",
                change.to_string(),
                self.median(change, |window| window.p50_us as f64),
                self.median(change, |window| window.p99_us as f64),
                self.median(change, |window| window.control * 100.0)
            )?;
        }
        writeln!(
            f,
            "p99 with changing endpoints: {:.2} x that of a quiet cluster, {:.2} x that beside other \
             changes (medians of the rounds' ratios)",
            self.slowdown(Change::Nothing),
            self.slowdown(Change::Unread)
        )
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let spread = Spread::of(&values.collect::<Vec<_>>());
    spread.map_or(0.0, |spread| spread.median)
}
