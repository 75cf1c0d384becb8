//! Metrics of the agent as a whole: readiness, snapshot, sources, pods, connections.

use std::fmt;

use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::{Metric, Page, Picture};
use crate::status::{ENROLMENT_BOUNDS_MS, SourceStatus};

pub(super) fn write(picture: &Picture, page: &mut Page<'_>) -> fmt::Result {
    let overview = &picture.status.overview;
    let build = Metric::new("build", "Version of the agent");
    page.begin(&build, MetricType::Info)?
        .encode_info(&[("version", &*overview.version)])?;
    let ready = Metric::new("ready", "1 if /readyz answers 200");
    page.gauge(&ready, flag(overview.not_ready.is_empty()))?;
    let uptime = Metric::new("uptime", "Time since start").unit(Unit::Seconds);
    page.gauge(&uptime, overview.uptime_s as f64)?;
    let heartbeat = Metric::new("heartbeat_age", "Age of the oldest worker's heartbeat");
    let heartbeat = heartbeat.unit(Unit::Seconds);
    page.gauge(&heartbeat, milliseconds(overview.heartbeat_age_ms))?;
    pods(picture, page)?;
    configuration(picture, page)?;
    connections(picture, page)
}

fn pods(picture: &Picture, page: &mut Page<'_>) -> fmt::Result {
    let overview = &picture.status.overview;
    let pods = Metric::new("pods", "Pods that were seen on this node");
    page.gauges(
        &pods,
        [
            (vec![("captured", "true")], overview.pods_captured as f64),
            (
                vec![("captured", "false")],
                overview.pods_not_captured as f64,
            ),
        ],
    )?;
    let enrolment = Metric::new(
        "pod_enrolment",
        "From a pod's network namespace being seen, or from the decision if later, to its capture",
    );
    let enrolments = &overview.enrolments;
    let bounds = ENROLMENT_BOUNDS_MS.iter().map(|ms| milliseconds(*ms));
    let in_bounds: u64 = enrolments.buckets.iter().sum();
    let longer = (f64::INFINITY, enrolments.count.saturating_sub(in_bounds));
    let buckets: Vec<_> = bounds.zip(enrolments.buckets).chain([longer]).collect();
    page.begin(&enrolment.unit(Unit::Seconds), MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(
            enrolments.sum_us as f64 / 1e6,
            enrolments.count,
            &buckets,
            None,
        )
}

fn configuration(picture: &Picture, page: &mut Page<'_>) -> fmt::Result {
    let overview = &picture.status.overview;
    let version = Metric::new("snapshot_version", "Version of the configuration in force");
    page.gauge(&version, overview.snapshot_version as f64)?;
    let age = Metric::new("snapshot_age", "Age of the configuration in force");
    page.gauge(
        &age.unit(Unit::Seconds),
        milliseconds(overview.snapshot_age_ms),
    )?;
    let problems = Metric::new("problems", "What is wrong with the configuration");
    page.gauges(
        &problems,
        [
            (vec![("severity", "error")], overview.errors as f64),
            (vec![("severity", "warning")], overview.warnings as f64),
        ],
    )?;
    let unread = Metric::new("objects_not_read", "Objects of kinds that are not read");
    page.gauge(&unread, picture.status.unknown_kinds.len() as f64)?;
    let each = |value: fn(&SourceStatus) -> f64| {
        let sources = overview.sources.iter();
        sources.map(move |source| (vec![("source", &*source.name)], value(source)))
    };
    let synced = Metric::new("source_synced", "1 if the first full read is done");
    page.gauges(&synced, each(|source| flag(source.synced)))?;
    let trouble = Metric::new("source_in_trouble", "1 if the source cannot be read now");
    page.gauges(&trouble, each(|source| flag(!source.trouble.is_empty())))?;
    let objects = Metric::new("source_objects", "Objects that the source holds");
    page.gauges(&objects, each(|source| source.objects as f64))?;
    let age = Metric::new("source_last_change_age", "Age of the source's last change");
    page.gauges(
        &age.unit(Unit::Seconds),
        each(|source| milliseconds(source.last_change_ms)),
    )
}

fn connections(picture: &Picture, page: &mut Page<'_>) -> fmt::Result {
    let workers = &picture.workers;
    let accepted = Metric::new("connections_accepted", "Connections accepted from pods");
    page.counter(&accepted, workers.accepted_total)?;
    let open = workers.accepted_total.saturating_sub(workers.closed_total);
    let open_metric = Metric::new("connections_open", "Connections from pods that are open");
    page.gauge(&open_metric, open as f64)?;
    let lost = Metric::new(
        "connections_without_destination",
        "Connections that were reset, since where they were meant to go was not known",
    );
    page.counter(&lost, workers.orig_dst_missing_total)?;
    let errors = Metric::new("accept_errors", "Failures of accept(2)");
    page.counter(&errors, workers.accept_errors_total)
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

fn milliseconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}
