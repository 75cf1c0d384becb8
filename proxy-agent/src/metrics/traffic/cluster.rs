//! What the workers count for one cluster: requests, latency, opaque connections.

use std::time::Duration;

use super::counter::{Counter, Recorder};
use super::{Histogram, HistogramTotals};
use crate::status::TrafficStatus;

/// What one worker did for one cluster.
///
/// HTTP: `request_started`, then `request_ended` when the response's head is there (or
/// was made here), then `in_flight_ended` when its body is through. A request whose client went
/// away before the head has no `request_ended`.
#[derive(Debug, Default)]
pub struct ClusterRecorder {
    requests_started: Counter,
    requests_left: Counter,
    /// By first digit of the status; index 0 takes what is out of range.
    by_class: [Counter; 6],
    /// Failures by their rule though the status is below 500, and the reverse.
    failed_below_500: Counter,
    fine_from_500: Counter,
    to_head: Histogram,
    tcp_started: Counter,
    tcp_ended: Counter,
    tcp_established: Counter,
    tcp_received_bytes: Counter,
    tcp_sent_bytes: Counter,
    turned_opaque: Counter,
    retries: Counter,
    retries_withheld: Counter,
    mirrored: Counter,
    mirrors_dropped: Counter,
    delayed: Counter,
    aborted: Counter,
}

impl ClusterRecorder {
    /// A request was given to this cluster.
    pub fn request_started(&self) {
        self.requests_started.add(1);
    }

    /// The head of its response is there, `to_head` after the end of the request's head.
    pub fn request_ended(&self, status: u16, to_head: Duration) {
        let class = self.by_class.get(usize::from(status / 100));
        if let Some(counter) = class.or(self.by_class.first()) {
            counter.add(1);
        }
        self.to_head.record(to_head);
    }

    /// The rule of the request says whether a response of this status is a failure. Beside
    /// `request_ended`.
    pub fn classified(&self, status: u16, failed: bool) {
        match (status >= 500, failed) {
            (false, true) => self.failed_below_500.add(1),
            (true, false) => self.fine_from_500.add(1),
            (false, false) | (true, true) => {}
        }
    }

    /// Nothing of the request or its response is under way any more. Once for each
    /// `request_started`.
    pub fn in_flight_ended(&self) {
        self.requests_left.add(1);
    }

    /// An opaque connection was given to this cluster.
    pub fn tcp_started(&self) {
        self.tcp_started.add(1);
    }

    /// It is over. `established`: an endpoint had accepted it. `received`: bytes from the pod;
    /// `sent`: bytes to the pod. Once for each `tcp_started`.
    pub fn tcp_ended(&self, established: bool, received: u64, sent: u64) {
        self.tcp_ended.add(1);
        self.tcp_established.add(u64::from(established));
        self.tcp_received_bytes.add(received);
        self.tcp_sent_bytes.add(sent);
    }

    /// A connection on an HTTP port turned out not to be HTTP.
    pub fn turned_opaque(&self) {
        self.turned_opaque.add(1);
    }

    /// A request is sent again.
    pub fn retried(&self) {
        self.retries.add(1);
    }

    /// A request would have been sent again, had there been budget left or its body been kept.
    pub fn retry_withheld(&self) {
        self.retries_withheld.add(1);
    }

    /// A copy of a request is sent to this cluster.
    pub fn mirrored(&self) {
        self.mirrored.add(1);
    }

    /// A copy of a request did not get through to this cluster whole.
    pub fn mirror_dropped(&self) {
        self.mirrors_dropped.add(1);
    }

    /// A request was held back by its rule's fault.
    pub fn delayed(&self) {
        self.delayed.add(1);
    }

    /// A request was answered by its rule's fault.
    pub fn aborted(&self) {
        self.aborted.add(1);
    }

    /// Requests under way.
    pub fn requests_in_flight(&self) -> u64 {
        let started = self.requests_started.value();
        started.saturating_sub(self.requests_left.value())
    }
}

/// Sum of [`ClusterRecorder`]s.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterTotals {
    /// Requests that were begun.
    pub requests_started: u64,
    /// Of those, how many are over.
    pub requests_left: u64,
    /// Requests answered, by first digit of the status.
    pub by_class: [u64; 6],
    /// Of those, failures by their rule though the status is below 500.
    pub failed_below_500: u64,
    /// Of those, no failures by their rule though the status is 500 or above.
    pub fine_from_500: u64,
    /// Time to the response's head.
    pub to_head: HistogramTotals,
    /// Opaque connections begun.
    pub tcp_started: u64,
    /// Of those, how many are over.
    pub tcp_ended: u64,
    /// Of those, how many an endpoint had accepted.
    pub tcp_established: u64,
    /// Bytes from pods.
    pub tcp_received_bytes: u64,
    /// Bytes to pods.
    pub tcp_sent_bytes: u64,
    /// Connections on an HTTP port that were not HTTP.
    pub turned_opaque: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Requests not sent again for lack of budget or body.
    pub retries_withheld: u64,
    /// Copies of requests sent to it.
    pub mirrored: u64,
    /// Of those, how many did not get through whole, and copies that were not sent at all.
    pub mirrors_dropped: u64,
    /// Requests held back by a fault.
    pub delayed: u64,
    /// Requests answered by a fault.
    pub aborted: u64,
}

impl Recorder for ClusterRecorder {
    type Totals = ClusterTotals;

    fn add_to(&self, totals: &mut ClusterTotals) {
        // The end counters first: what starts meanwhile must not look ended before it started.
        totals.requests_left += self.requests_left.value();
        totals.requests_started += self.requests_started.value();
        totals.tcp_ended += self.tcp_ended.value();
        totals.tcp_started += self.tcp_started.value();
        for (total, counter) in totals.by_class.iter_mut().zip(&self.by_class) {
            *total += counter.value();
        }
        totals.failed_below_500 += self.failed_below_500.value();
        totals.fine_from_500 += self.fine_from_500.value();
        self.to_head.add_to(&mut totals.to_head);
        totals.tcp_established += self.tcp_established.value();
        totals.tcp_received_bytes += self.tcp_received_bytes.value();
        totals.tcp_sent_bytes += self.tcp_sent_bytes.value();
        totals.turned_opaque += self.turned_opaque.value();
        totals.retries += self.retries.value();
        totals.retries_withheld += self.retries_withheld.value();
        totals.mirrored += self.mirrored.value();
        totals.mirrors_dropped += self.mirrors_dropped.value();
        totals.delayed += self.delayed.value();
        totals.aborted += self.aborted.value();
    }
}

impl ClusterTotals {
    /// Requests answered.
    pub fn requests_answered(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// Requests that failed: by their rule's response classes, else with a status from 500 on.
    pub const fn requests_failed(&self) -> u64 {
        let from_500 = self.by_class[5] + self.failed_below_500;
        from_500.saturating_sub(self.fine_from_500)
    }

    /// Requests and opaque connections under way.
    pub const fn in_flight(&self) -> u64 {
        self.requests_started.saturating_sub(self.requests_left)
            + self.tcp_started.saturating_sub(self.tcp_ended)
    }

    /// Adds another sum to this one.
    pub fn merge(&mut self, other: &Self) {
        self.requests_started += other.requests_started;
        self.requests_left += other.requests_left;
        for (total, n) in self.by_class.iter_mut().zip(other.by_class) {
            *total += n;
        }
        self.failed_below_500 += other.failed_below_500;
        self.fine_from_500 += other.fine_from_500;
        self.to_head.merge(&other.to_head);
        self.tcp_started += other.tcp_started;
        self.tcp_ended += other.tcp_ended;
        self.tcp_established += other.tcp_established;
        self.tcp_received_bytes += other.tcp_received_bytes;
        self.tcp_sent_bytes += other.tcp_sent_bytes;
        self.turned_opaque += other.turned_opaque;
        self.retries += other.retries;
        self.retries_withheld += other.retries_withheld;
        self.mirrored += other.mirrored;
        self.mirrors_dropped += other.mirrors_dropped;
        self.delayed += other.delayed;
        self.aborted += other.aborted;
    }

    /// As `status` shows it.
    pub fn status(&self) -> TrafficStatus {
        let requests_total = self.requests_answered() + self.tcp_ended;
        let answered = self.requests_answered();
        let success_total = answered.saturating_sub(self.requests_failed()) + self.tcp_established;
        let success_rate = match requests_total {
            0 => 1.0,
            total => success_total as f64 / total as f64,
        };
        TrafficStatus {
            requests_total,
            success_total,
            success_rate,
            in_flight: self.in_flight(),
            latency_p50_us: self.to_head.quantile_us(0.50),
            latency_p90_us: self.to_head.quantile_us(0.90),
            latency_p99_us: self.to_head.quantile_us(0.99),
            tcp_connections_total: self.tcp_started,
            tcp_received_bytes: self.tcp_received_bytes,
            tcp_sent_bytes: self.tcp_sent_bytes,
            http_turned_opaque_total: self.turned_opaque,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals<R: Recorder>(recorder: &R) -> R::Totals {
        let mut totals = R::Totals::default();
        recorder.add_to(&mut totals);
        totals
    }

    #[test]
    fn a_request_is_in_flight_until_its_body_is_through() {
        let recorder = ClusterRecorder::default();
        recorder.request_started();
        recorder.request_ended(200, Duration::from_millis(3));
        assert_eq!(totals(&recorder).status().in_flight, 1);
        recorder.in_flight_ended();
        let status = totals(&recorder).status();
        assert_eq!((status.in_flight, status.requests_total), (0, 1));
    }

    #[test]
    fn success_is_below_500_or_established() {
        let recorder = ClusterRecorder::default();
        for status in [200, 404, 503] {
            recorder.request_started();
            recorder.request_ended(status, Duration::ZERO);
        }
        recorder.tcp_started();
        recorder.tcp_ended(true, 10, 20);
        recorder.tcp_started();
        recorder.tcp_ended(false, 0, 0);
        let status = totals(&recorder).status();
        assert_eq!((status.requests_total, status.success_total), (5, 3));
        assert!((status.success_rate - 0.6).abs() < 1e-9);
        assert_eq!((status.tcp_received_bytes, status.tcp_sent_bytes), (10, 20));
    }

    #[test]
    fn a_rule_may_say_what_is_a_failure() {
        let recorder = ClusterRecorder::default();
        for (status, failed) in [(404, true), (503, false), (200, false), (500, true)] {
            recorder.request_started();
            recorder.classified(status, failed);
            recorder.request_ended(status, Duration::ZERO);
        }
        let totals = totals(&recorder);
        assert_eq!(
            (totals.requests_failed(), totals.status().success_total),
            (2, 2)
        );
    }

    #[test]
    fn a_status_out_of_range_is_still_counted() {
        let recorder = ClusterRecorder::default();
        recorder.request_ended(999, Duration::ZERO);
        assert_eq!(totals(&recorder).by_class[0], 1);
    }

    #[test]
    fn no_requests_are_no_failure() {
        assert!((ClusterTotals::default().status().success_rate - 1.0).abs() < f64::EPSILON);
    }
}
