//! Whether a soak went well: the table, and what is wrong.

use std::fmt;

use super::Round;
use crate::installed::footprint::Footprint;

/// Descriptors and map entries that may be there besides: a connection of the admin socket, a flow
/// that is a moment old.
const SPARE: u64 = 8;
/// Memory that may be there besides, KiB, and as a share: an allocator keeps what it once had.
const SPARE_KIB: u64 = 8_192;
const SPARE_SHARE: u64 = 10;

/// All that is known in the end.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) round: Round,
    /// Of each agent, at rest.
    pub(super) before: Vec<Footprint>,
    pub(super) after: Vec<Footprint>,
}

impl Verdict {
    /// What is wrong; nothing, if all is well.
    pub(super) fn faults(&self) -> Vec<String> {
        let Round {
            steady,
            still,
            frail,
            proxied,
            ..
        } = &self.round;
        let mut faults = leaks(&self.before, &self.after);
        // A pod that is killed takes with it what it was answering, and no more.
        let lost = self.round.changes.kills * self.round.at_once;
        for (whose, report, bearable) in [
            ("pods that end gracefully", steady, 0),
            ("pods that never end", still, 0),
            ("pods that are killed", frail, lost),
        ] {
            if report.errors() > bearable {
                let first: Vec<_> = report.failures.iter().take(5).collect();
                faults.push(format!(
                    "{} requests to {whose} failed, {bearable} may: {:?} {:?} {first:?}",
                    report.errors(),
                    report.by_status,
                    report.by_reason,
                ));
            }
            if report.answered == 0 {
                faults.push(format!("no request to {whose} was answered"));
            }
        }
        let pace = self.round.changes.all() as f64 / self.round.took.as_secs_f64();
        let least = self.round.least;
        if pace < least || self.round.changes.all() == 0 {
            faults.push(format!("{pace:.1} changes a second, not {least:.1}"));
        }
        let connects = steady.connects + still.connects + frail.connects;
        if *proxied < connects {
            faults.push(format!(
                "of {connects} connections the agents got {proxied}"
            ));
        }
        faults
    }
}

/// What agents hold now and did not hold before: together, as pods may have moved from node to node.
pub(super) fn leaks(before: &[Footprint], after: &[Footprint]) -> Vec<String> {
    let mut leaks = Vec::new();
    let mut compare = |what: &str, before: u64, after: u64, spare: u64| {
        if after > before + spare {
            leaks.push(format!("{what} went from {before} to {after}"));
        }
    };
    for (number, (before, after)) in (1..).zip(before.iter().zip(after)) {
        let (before, after) = (before.resident_kib, after.resident_kib);
        let what = format!("memory on node{number}, in KiB,");
        compare(&what, before, after, SPARE_KIB + before / SPARE_SHARE);
    }
    let (before, after) = (together(before), together(after));
    compare("descriptors", before.descriptors, after.descriptors, SPARE);
    compare("namespaces", before.namespaces, after.namespaces, 0);
    for (map, entries) in &after.entries {
        let earlier = before.entries.get(map).copied().unwrap_or_default();
        compare(&format!("entries of {map}"), earlier, *entries, SPARE);
    }
    leaks
}

fn together(agents: &[Footprint]) -> Footprint {
    let mut sum = Footprint::default();
    for agent in agents {
        sum.descriptors += agent.descriptors;
        sum.namespaces += agent.namespaces;
        for (map, entries) in &agent.entries {
            *sum.entries.entry(map.clone()).or_default() += entries;
        }
    }
    sum
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} descriptors ({} sockets, {} namespaces), {} KiB",
            self.descriptors, self.sockets, self.namespaces, self.resident_kib
        )?;
        for (name, entries) in self.entries.iter().filter(|(_, entries)| **entries > 0) {
            write!(f, ", {name} {entries}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let round = &self.round;
        let (changes, seconds) = (&round.changes, round.took.as_secs_f64());
        writeln!(
            f,
            "{seconds:.0} s, {:.1} changes a second: {} of endpoints, {} of routes, {} scalings, \
             {} pods deleted, {} pods killed",
            changes.all() as f64 / seconds,
            changes.endpoints,
            changes.routes,
            changes.scalings,
            changes.deletions,
            changes.kills
        )?;
        for (what, report) in [
            ("steady", &round.steady),
            ("still", &round.still),
            ("frail", &round.frail),
        ] {
            writeln!(
                f,
                "{what:<7} {:>8} requests ({:.0} a second), {} errors, p50 {} µs, p99 {} µs",
                report.answered,
                report.answered as f64 / seconds,
                report.errors(),
                report.latency_us(0.5),
                report.latency_us(0.99)
            )?;
        }
        writeln!(f, "most memory of an agent: {} KiB", round.peak_kib)?;
        for (number, (before, after)) in (1..).zip(self.before.iter().zip(&self.after)) {
            writeln!(f, "node{number} before: {before}")?;
            writeln!(f, "node{number} after:  {after}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(descriptors: u64, resident_kib: u64, pods: u64) -> Footprint {
        Footprint {
            descriptors,
            resident_kib,
            entries: [("PODS".to_owned(), pods)].into(),
            ..Footprint::default()
        }
    }

    #[test]
    fn what_is_held_on_top_is_a_leak_but_for_a_little() {
        let before = [footprint(100, 50_000, 10), footprint(100, 50_000, 10)];

        let leaks_of = |one, other| leaks(&before, &[one, other]).len();

        let moved = [footprint(60, 50_000, 5), footprint(140, 50_000, 15)];
        assert_eq!(leaks(&before, &moved).len(), 0);
        let same = || footprint(100, 50_000, 10);
        assert_eq!(leaks_of(same(), footprint(100 + SPARE, 60_000, 10)), 0);
        assert_eq!(leaks_of(same(), footprint(101 + SPARE, 60_000, 10)), 1);
        assert_eq!(leaks_of(same(), footprint(100, 64_000, 10)), 1);
        assert_eq!(leaks_of(same(), footprint(120, 64_000, 40)), 3);
    }
}
