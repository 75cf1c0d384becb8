//! `cargo xtask measure enrolment`: is the very first connection of a pod captured?
//!
//! The first container of every pod connects at once and says who answered. How long that was after
//! the start of the pod's sandbox is the time that the agent had; how long it took is its own word.

mod first;
mod sandbox;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};

use crate::installed::{Installed, Place};
use first::First;

/// `cargo xtask measure enrolment`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// Pods in all.
    #[arg(long, default_value_t = 200)]
    pods: u32,
    /// Pods that are started at once.
    #[arg(long, default_value_t = 10)]
    batch: u32,
    /// What the agent does with pods that it has not decided about.
    #[arg(long, default_value = "pass", value_parser = ["pass", "refuse"])]
    unknown_pods: String,
    /// Pods name their nodes, by turns: kubelet learns of them when the agent does, with no
    /// scheduler in between.
    #[arg(long)]
    named_nodes: bool,
}

const NAMESPACE: &str = "enrolment";
const NODES: u8 = 2;

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<()> {
    let values = format!("unknownPods={}", args.unknown_pods);
    let installed = Installed::on(&args.place, NODES, &[&values])?;
    installed.stage(NAMESPACE, include_str!("enrolment.yaml"))?;
    first::stranger(&installed, &args.unknown_pods)?;
    let mut all = Figures::default();
    for begin in (0..args.pods).step_by(usize::try_from(args.batch.max(1))?) {
        let numbers = begin..args.pods.min(begin + args.batch);
        for first in first::batch(&installed, numbers, args.named_nodes)? {
            all.add(&first);
        }
        println!("enrolment: {all}");
    }
    installed.clear(NAMESPACE)?;
    println!(
        "\n--unknown-pods {}, {} at once:\n{all:#}",
        args.unknown_pods, args.batch
    );
    let captured = all.by_answer.get("routed").copied().unwrap_or_default();
    ensure!(
        captured == args.pods,
        "{captured} of {} were captured",
        args.pods
    );
    Ok(())
}

/// What came of all pods so far.
#[derive(Debug, Default)]
struct Figures {
    /// First connections by who answered, or how they failed.
    by_answer: BTreeMap<String, u32>,
    /// From the sandbox's start to the first connect(2).
    lead_ms: Vec<f64>,
    /// From the sandbox being seen to capture, as the agents say.
    enrolment_ms: Vec<f64>,
}

impl Figures {
    fn add(&mut self, first: &First) {
        *self.by_answer.entry(first.answer.clone()).or_default() += 1;
        self.lead_ms.extend(first.lead_ms);
        self.enrolment_ms.extend(first.enrolment_ms);
        self.lead_ms.sort_by(f64::total_cmp);
        self.enrolment_ms.sort_by(f64::total_cmp);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "first connections by who answered: {:?}", self.by_answer)?;
        if !f.alternate() {
            return Ok(());
        }
        for (what, sorted) in [
            ("enrolment", &self.enrolment_ms),
            ("sandbox to first connect", &self.lead_ms),
        ] {
            write!(
                f,
                "\n{what}, ms: min {:.1}, median {:.1}, p99 {:.1}, max {:.1} ({} pods)",
                at(sorted, 0.0),
                at(sorted, 0.5),
                at(sorted, 0.99),
                at(sorted, 1.0),
                sorted.len()
            )?;
        }
        Ok(())
    }
}

/// The value that this share of sorted values does not exceed; 0 without values.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index of a short list"
)]
fn at(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    let index = rank.saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_sorted_values_are_found() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();

        let found = [0.0, 0.5, 0.99, 1.0].map(|share| at(&sorted, share));

        assert_eq!(found, [1.0, 100.0, 198.0, 200.0]);
        assert_eq!(at(&[], 0.5), 0.0);
    }
}
