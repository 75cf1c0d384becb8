//! Passive health: which endpoints of a cluster are left out for a while because connections to
//! them fail one after the other. Pure: the clock is passed in.
//!
//! The rules and their defaults are those of Envoy's outlier detection
//! (envoy.config.cluster.v3.OutlierDetection).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Failures in a row that eject.
pub const CONSECUTIVE: u64 = 5;
/// How long the first ejection lasts; each further one as much longer.
const BASE: Duration = Duration::from_secs(30);
/// How long one lasts at most.
const LONGEST: Duration = Duration::from_secs(300);
/// Share of a cluster's endpoints that may be ejected at a time, in percent; one always may.
const MOST_PERCENT: usize = 10;
/// Below this share of endpoints that are not ejected, in percent, all are used.
const PANIC_PERCENT: usize = 50;

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// Ejected until then; in the past: it came back then.
    until: Instant,
    /// Ejections, less those that a time without one has made up for.
    times: u32,
    /// Failures in a row when it was ejected last: these have been answered.
    answered: u64,
}

/// The endpoints of one cluster.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    records: HashMap<SocketAddr, Record>,
}

impl Detector {
    /// Takes note of how many connections to an endpoint have failed in a row. Returns whether it
    /// is ejected for that, one of `endpoints` in its cluster.
    pub fn observe(
        &mut self,
        endpoint: SocketAddr,
        streak: u64,
        endpoints: usize,
        now: Instant,
    ) -> bool {
        let record = self.records.get(&endpoint).copied();
        if record.is_some_and(|record| record.until > now) {
            return false;
        }
        let answered = record.map_or(0, |record| record.answered);
        let unanswered = streak.checked_sub(answered).unwrap_or_else(|| {
            // A row that is shorter than what was answered is another one.
            if let Some(record) = self.records.get_mut(&endpoint) {
                record.answered = 0;
            }
            streak
        });
        let room = (endpoints * MOST_PERCENT / 100).max(1);
        if unanswered < CONSECUTIVE || self.ejected(now).count() >= room {
            return false;
        }
        let times = record.map_or(0, |record| {
            let healthy = now.saturating_duration_since(record.until).as_secs() / BASE.as_secs();
            record
                .times
                .saturating_sub(u32::try_from(healthy).unwrap_or(u32::MAX))
        });
        let times = times.saturating_add(1);
        let record = Record {
            until: now + LONGEST.min(BASE.saturating_mul(times)),
            times,
            answered: streak,
        };
        self.records.insert(endpoint, record);
        true
    }

    /// The endpoints that are ejected, and until when.
    pub fn ejected(&self, now: Instant) -> impl Iterator<Item = (SocketAddr, Instant)> {
        let records = self.records.iter();
        let ejected = records.filter(move |(_, record)| record.until > now);
        ejected.map(|(endpoint, record)| (*endpoint, record.until))
    }

    /// Forgets endpoints that the cluster has no more.
    pub fn retain(&mut self, is_there: impl Fn(&SocketAddr) -> bool) {
        self.records.retain(|endpoint, _| is_there(endpoint));
    }

    /// Those of `endpoints` that are to be used.
    pub fn usable<'e>(
        &self,
        endpoints: &'e [SocketAddr],
        now: Instant,
    ) -> impl Iterator<Item = &'e SocketAddr> {
        let is_ejected = move |endpoint: &SocketAddr| {
            let record = self.records.get(endpoint);
            record.is_some_and(|record| record.until > now)
        };
        let healthy = endpoints.iter().filter(|one| !is_ejected(one)).count();
        let panic = healthy * 100 < endpoints.len() * PANIC_PERCENT;
        endpoints
            .iter()
            .filter(move |endpoint| panic || !is_ejected(endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u8) -> Vec<SocketAddr> {
        (1..=count)
            .map(|number| SocketAddr::from(([10, 0, 0, number], 80)))
            .collect()
    }

    fn usable(detector: &Detector, endpoints: &[SocketAddr], now: Instant) -> usize {
        detector.usable(endpoints, now).count()
    }

    #[test]
    fn five_failures_in_a_row_eject_and_four_do_not() {
        let (mut detector, all, now) = (Detector::default(), endpoints(10), Instant::now());
        assert!(!detector.observe(all[0], 4, 10, now));
        assert_eq!(usable(&detector, &all, now), 10);
        assert!(detector.observe(all[0], 5, 10, now));
        assert_eq!(usable(&detector, &all, now), 9);
        assert_eq!(usable(&detector, &all, now + BASE), 10, "it comes back");
    }

    #[test]
    fn each_ejection_lasts_longer_until_a_time_without_one() {
        let (mut detector, all, start) = (Detector::default(), endpoints(10), Instant::now());
        let mut now = start;
        let mut streak = 0;
        for times in 1..=12 {
            streak += CONSECUTIVE;
            assert!(detector.observe(all[0], streak, 10, now));
            let [(_, until)] = detector.ejected(now).collect::<Vec<_>>()[..] else {
                panic!("one is ejected");
            };
            assert_eq!(until - now, LONGEST.min(BASE * times));
            now = until;
        }
        now += 12 * BASE;
        assert!(detector.observe(all[0], streak + CONSECUTIVE, 10, now));
        let until = detector.ejected(now).next().map(|(_, until)| until - now);
        assert_eq!(until, Some(BASE), "made up for");
    }

    #[test]
    fn failures_that_were_answered_do_not_count_again() {
        let (mut detector, all, now) = (Detector::default(), endpoints(10), Instant::now());
        assert!(detector.observe(all[0], 7, 10, now));
        let back = now + BASE;
        assert!(!detector.observe(all[0], 7, 10, back));
        assert!(!detector.observe(all[0], 11, 10, back));
        assert!(detector.observe(all[0], 12, 10, back));
        let again = back + 2 * BASE;
        assert!(!detector.observe(all[0], 4, 10, again), "a new row");
        assert!(detector.observe(all[0], 5, 10, again), "a new row");
    }

    #[test]
    fn a_tenth_may_be_ejected_and_one_always() {
        for (count, most) in [(1, 1), (5, 1), (19, 1), (20, 2), (100, 10)] {
            let (mut detector, all, now) = (Detector::default(), endpoints(count), Instant::now());
            for endpoint in &all {
                detector.observe(*endpoint, 5, all.len(), now);
            }
            assert_eq!(detector.ejected(now).count(), most, "of {count}");
        }
    }

    #[test]
    fn below_half_all_are_used() {
        let (mut detector, all, now) = (Detector::default(), endpoints(2), Instant::now());
        assert!(detector.observe(all[0], 5, 2, now));
        assert_eq!(usable(&detector, &all, now), 1, "half is enough");
        assert_eq!(usable(&detector, &all[..1], now), 1, "none is not");
    }
}
