//! `cargo xtask bench`: the agent beside no mesh and beside sidecars, on one machine.
//!
//! Every scenario has a node of its own. Rounds are interleaved (A B C, A B C …), so that what the
//! machine does besides hits all of them; medians are reported. Ratios carry over to other
//! machines, absolute numbers do not.

use std::fs;
use std::path::PathBuf;

use crate::e2e::{Outcome, missing_privilege};
use crate::workspace::{BuildProfile, build_harness, target};
use crate::{build_ebpf, profile, setup, tools};
use anyhow::{Context, Result, ensure};

mod aims;
mod figures;
mod h2load;
mod hook;
mod kind;
mod load;
mod memory;
mod report;
mod restart;
mod scale;
mod scenario;
mod sidecar;
mod spread;
mod work;
mod wrk;

pub(crate) use figures::Spread;
pub(crate) use h2load::counts;
pub(crate) use sidecar::start_haproxy;

use figures::{Figures, Sample};
use kind::Kind;
use report::Report;
use scenario::{Programs, Scenario};
use work::Work;

/// `cargo xtask bench`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; each runs every load on every path.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds for each load in a round.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Only this work.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Work>,
    /// Only these paths.
    #[arg(long, value_enum, value_delimiter = ',')]
    paths: Vec<Kind>,
    /// Services of the large configuration, ten endpoints each.
    #[arg(long, default_value_t = 10_000)]
    services: u32,
    /// This build of the agent; nothing is built.
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Another build of the agent, which takes turns with it.
    #[arg(long)]
    before: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(missing) = missing_privilege() {
        anyhow::bail!("the bench cannot run: this machine lacks {missing}");
    }
    if args.agent.is_none() {
        build()?;
    }
    let bench = Bench::new(args, BuildProfile::Release)?;
    let report = bench.measure()?;
    println!("\n{}", report.tables());
    let folder = target("bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join("latest.json");
    fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    println!("bench: everything in {}", path.display());
    Ok(())
}

fn build() -> Result<()> {
    setup::run(&setup::Args::default())?;
    build_ebpf::build()?;
    profile::build()?;
    build_harnesses()
}

fn build_harnesses() -> Result<()> {
    build_harness(BuildProfile::Release)?;
    // The harness finds the echo server beside xtask.
    build_harness(BuildProfile::Debug)
}

/// What a profile is recorded from: every load by way of this agent, and a large configuration.
pub(crate) fn train(agent: PathBuf) -> Result<()> {
    let args = Args {
        rounds: 1,
        seconds: 5,
        only: [Work::ROUNDS, &[Work::Scale]].concat(),
        paths: vec![Kind::Agent, Kind::AgentAccelerated],
        services: 1_000,
        agent: Some(agent),
        before: None,
    };
    build_harnesses()?;
    let mut bench = Bench::new(&args, BuildProfile::Release)?;
    bench.trains = true;
    let why = bench.programs.without_acceleration()?;
    ensure!(why.is_none(), "an agent that does not accelerate: {why:?}");
    bench.measure().map(drop)
}

/// One short round of the agent and no mesh, with the binaries that the tests use: the bench works.
pub(crate) fn smoke() -> Result<Outcome> {
    if let Some(missing) = missing_privilege() {
        return Ok(Outcome::Skipped(missing));
    }
    let args = Args {
        rounds: 1,
        seconds: 1,
        only: Vec::new(),
        paths: vec![
            Kind::NoMesh,
            Kind::TcpCopy,
            Kind::Http2Copy,
            Kind::Agent,
            Kind::AgentDirect,
            Kind::AgentAccelerated,
            Kind::AgentDirectAccelerated,
        ],
        services: 100,
        agent: None,
        before: None,
    };
    let report = Bench::new(&args, BuildProfile::Debug)?.measure()?;
    println!("\n{}", report.tables());
    Ok(Outcome::Passed)
}

/// What is measured, by which binaries.
struct Bench<'a> {
    args: &'a Args,
    works: Vec<Work>,
    kinds: Vec<Kind>,
    programs: Programs,
    /// Agents have to end by themselves: what they have counted is written then.
    trains: bool,
}

impl<'a> Bench<'a> {
    /// With the binaries of a profile.
    fn new(args: &'a Args, profile: BuildProfile) -> Result<Self> {
        fn chosen<T: clap::ValueEnum>(only: &[T]) -> Vec<T> {
            let all = if only.is_empty() {
                T::value_variants()
            } else {
                only
            };
            all.to_vec()
        }
        let (works, mut kinds) = (chosen(&args.only), chosen(&args.paths));
        kinds.retain(|kind| *kind != Kind::AgentBefore || args.before.is_some());
        let with_envoy = kinds.contains(&Kind::Envoy) || kinds.contains(&Kind::EnvoyTwice);
        let programs = Programs {
            agent: args
                .agent
                .clone()
                .unwrap_or_else(|| profile.folder().join("proxy-agent")),
            before: args.before.clone(),
            bench: profile.folder().join("e2e-bench"),
            envoy: with_envoy.then(tools::envoy).transpose()?,
        };
        Ok(Self {
            args,
            works,
            kinds,
            programs,
            trains: false,
        })
    }

    fn measure(&self) -> Result<Report> {
        let mut figures = Figures::default();
        let mut scenarios = Vec::new();
        for kind in &self.kinds {
            let mut works = self.works.iter();
            if works.any(|work| kind.does(*work) && !work.is_apart()) {
                if kind.accelerates()
                    && let Some(why) = self.programs.without_acceleration()?
                {
                    figures.unavailable(*kind, why);
                    continue;
                }
                println!("bench: setting up {kind}");
                scenarios.push(Scenario::start(*kind, &self.programs)?);
            }
        }
        // Memory first: afterwards nothing is as fresh as at its start.
        self.turns(Work::FIRST, 1, &scenarios, &mut figures)?;
        for round in 1..=self.args.rounds {
            self.turns(Work::ROUNDS, round, &scenarios, &mut figures)?;
        }
        self.turns(&[Work::Hook], 1, &scenarios, &mut figures)?;
        if self.trains {
            for scenario in scenarios {
                scenario.end()?;
            }
        }
        self.apart(&mut figures)?;
        Ok(Report::new(self.args.rounds, self.args.seconds, figures))
    }

    /// One turn of each path at each work.
    fn turns(
        &self,
        works: &[Work],
        round: u32,
        scenarios: &[Scenario],
        figures: &mut Figures,
    ) -> Result<()> {
        for work in works.iter().filter(|work| self.works.contains(work)) {
            let there = scenarios.iter().filter(|one| one.kind.does(*work));
            let back = there.clone().rev().filter(|_| work.turns_back());
            for scenario in there.chain(back) {
                let sample = self.sample(*work, scenario);
                let sample = sample.with_context(|| format!("{work}, {}", scenario.kind))?;
                figures.add(round, *work, scenario.kind, sample);
            }
        }
        Ok(())
    }

    fn sample(&self, work: Work, scenario: &Scenario) -> Result<Sample> {
        let (programs, seconds) = (&self.programs, self.args.seconds);
        if work == Work::Idle {
            memory::idle(scenario)
        } else if work == Work::IdleConnections {
            memory::connections(scenario, programs)
        } else if work == Work::Hook {
            hook::mean(scenario, programs, seconds)
        } else {
            load::run(scenario, work, programs, seconds)
        }
    }

    /// What the agent does on a node of its own.
    fn apart(&self, figures: &mut Figures) -> Result<()> {
        let asked = |work| self.kinds.contains(&Kind::Agent) && self.works.contains(&work);
        if asked(Work::Restart) {
            for (round, sample) in (1..).zip(restart::run(&self.programs)?) {
                figures.add(round, Work::Restart, Kind::Agent, sample);
            }
        }
        if asked(Work::Scale) {
            let (held, changes) = scale::run(&self.programs, self.args.services, self.trains)?;
            figures.add(1, Work::Scale, Kind::Agent, held);
            for (round, (kind, sample)) in (2..).map(|turn| turn / 2).zip(changes) {
                figures.add(round, Work::Scale, kind, sample);
            }
        }
        Ok(())
    }
}
