//! Metrics by cluster: requests, time to the response's head, opaque connections.

use std::fmt;

use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::{Labels, Metric, Page, Picture};
use crate::metrics::traffic::{ClusterTotals, HistogramTotals};

/// Values of the label `status_class`, by first digit of the status.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Bounds of the latency buckets are 2^7 µs (0.13 ms) to 2^26 µs (67 s), each twice the one
/// before: borders that the log-linear histogram has too, so the counts are exact.
const LATENCY_BITS: std::ops::RangeInclusive<u32> = 7..=26;

pub(super) fn write(picture: &Picture, page: &mut Page<'_>) -> fmt::Result {
    requests(picture, page)?;
    latency(picture, page)?;
    opaque(picture, page)?;
    policies(picture, page)?;
    let replies = Metric::new(
        "local_replies",
        "Requests and connections that the agent answered itself, by x-proxy-agent-reason",
    );
    let reasons = picture.reasons.iter();
    page.counters(
        &replies,
        reasons.map(|(reason, n)| (vec![("reason", *reason)], *n)),
    )
}

fn requests(picture: &Picture, page: &mut Page<'_>) -> fmt::Result {
    let answered = Metric::new("requests", "HTTP requests answered");
    let by_class = picture.clusters.iter().flat_map(|(cluster, totals)| {
        let classes = CLASSES.iter().zip(totals.by_class);
        let seen = classes.filter(|(_, n)| *n > 0);
        seen.map(|(class, n)| (vec![("cluster", &**cluster), ("status_class", *class)], n))
    });
    page.counters(&answered, by_class)?;
    let failed = Metric::new(
        "requests_failed",
        "Requests that failed: by their rule's response classes, else with a status from 500 on",
    );
    let seen = picture.clusters.iter();
    let seen = seen.filter(|(_, totals)| totals.requests_answered() > 0);
    page.counters(
        &failed,
        seen.map(|(cluster, totals)| (vec![("cluster", &**cluster)], totals.requests_failed())),
    )?;
    let in_flight = Metric::new(
        "requests_in_flight",
        "Requests and opaque connections under way",
    );
    let under_way = picture.clusters.iter();
    page.gauges(
        &in_flight,
        under_way
            .map(|(cluster, totals)| (vec![("cluster", &**cluster)], totals.in_flight() as f64)),
    )
}

fn latency(picture: &Picture, page: &mut Page<'_>) -> fmt::Result {
    let metric = Metric::new(
        "request_duration",
        "From the end of a request's head to the head of its response",
    );
    let metric = metric.unit(Unit::Seconds);
    let mut family = page.begin(&metric, MetricType::Histogram)?;
    for (cluster, totals) in &picture.clusters {
        let latency = &totals.to_head;
        let count = latency.count();
        if count > 0 {
            let sum_s = latency.sum_us() as f64 / 1e6;
            let labels: Labels<'_> = vec![("cluster", &**cluster)];
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum_s, count, &buckets(latency), None)?;
        }
    }
    Ok(())
}

/// Upper bound in seconds and count of each bucket, not added up: the encoder does that.
fn buckets(latency: &HistogramTotals) -> Vec<(f64, u64)> {
    let mut below = 0;
    let mut buckets: Vec<_> = LATENCY_BITS
        .map(|bits| {
            let before = below;
            below = latency.count_below_power_of_two(bits);
            ((1_u64 << bits) as f64 / 1e6, below - before)
        })
        .collect();
    buckets.push((f64::INFINITY, latency.count() - below));
    buckets
}

fn opaque(picture: &Picture, page: &mut Page<'_>) -> fmt::Result {
    let each = |value: fn(&ClusterTotals) -> u64| {
        let clusters = picture.clusters.iter();
        clusters.map(move |(cluster, totals)| (vec![("cluster", &**cluster)], value(totals)))
    };
    let connections = Metric::new("tcp_connections", "Opaque connections begun");
    page.counters(&connections, each(|totals| totals.tcp_started))?;
    let failed = Metric::new(
        "tcp_connections_failed",
        "Opaque connections that no endpoint took",
    );
    page.counters(
        &failed,
        each(|totals| totals.tcp_ended.saturating_sub(totals.tcp_established)),
    )?;
    let received = Metric::new(
        "tcp_received",
        "Bytes from pods in opaque connections that ended",
    );
    page.counters(
        &received.unit(Unit::Bytes),
        each(|totals| totals.tcp_received_bytes),
    )?;
    let sent = Metric::new("tcp_sent", "Bytes to pods in opaque connections that ended");
    page.counters(
        &sent.unit(Unit::Bytes),
        each(|totals| totals.tcp_sent_bytes),
    )?;
    let turned = Metric::new(
        "http_turned_opaque",
        "Connections on an HTTP port that were not HTTP and went on as opaque",
    );
    page.counters(&turned, each(|totals| totals.turned_opaque))
}

/// A cluster appears with its first: most have no such rule.
fn policies(picture: &Picture, page: &mut Page<'_>) -> fmt::Result {
    let each = |value: fn(&ClusterTotals) -> u64| {
        let clusters = picture.clusters.iter();
        let seen = clusters.filter(move |(_, totals)| value(totals) > 0);
        seen.map(move |(cluster, totals)| (vec![("cluster", &**cluster)], value(totals)))
    };
    let retries = Metric::new("retries", "Requests sent again, as their rule says");
    page.counters(&retries, each(|totals| totals.retries))?;
    let withheld = Metric::new(
        "retries_withheld",
        "Requests not sent again, since the budget was used up or the body was not kept",
    );
    page.counters(&withheld, each(|totals| totals.retries_withheld))?;
    let mirrored = Metric::new(
        "mirrored_requests",
        "Copies of requests sent to the cluster",
    );
    page.counters(&mirrored, each(|totals| totals.mirrored))?;
    let dropped = Metric::new(
        "mirrored_requests_dropped",
        "Copies of requests that were not sent, or not whole",
    );
    page.counters(&dropped, each(|totals| totals.mirrors_dropped))?;
    let faults = Metric::new("faults", "Requests that a rule's fault delayed or aborted");
    let of_cluster = picture.clusters.iter().flat_map(|(cluster, totals)| {
        let kinds = [("delay", totals.delayed), ("abort", totals.aborted)];
        let seen = kinds.into_iter().filter(|(_, n)| *n > 0);
        seen.map(|(kind, n)| (vec![("cluster", &**cluster), ("kind", kind)], n))
    });
    page.counters(&faults, of_cluster)
}
