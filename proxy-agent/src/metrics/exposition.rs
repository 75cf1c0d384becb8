//! `/metrics` as OpenMetrics text. Names, units and labels are API; `docs/metrics.md` lists them.
//!
//! Labels are clusters (Service ports), reasons, counters, maps, programs and sources: nothing
//! that grows with pods or requests.

mod agent;
mod clusters;
mod kernel;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::traffic::{ClusterTotals, Traffic, WorkerTotals};
use crate::status::Status;

/// First part of every name.
const PREFIX: &str = "proxy_agent";

/// All metrics at this instant, as OpenMetrics text.
///
/// # Errors
///
/// When the encoder refuses a metric, which would be a defect of this module.
pub fn encode(traffic: &Traffic, status: &Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Picture {
        clusters: traffic.clusters(),
        workers: traffic.workers(),
        reasons: traffic.reasons(),
        status: status.clone(),
    }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// What is shown, taken once, so that numbers that belong together agree.
#[derive(Debug)]
struct Picture {
    clusters: BTreeMap<Arc<str>, ClusterTotals>,
    workers: WorkerTotals,
    reasons: BTreeMap<&'static str, u64>,
    status: Status,
}

impl Collector for Picture {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        agent::write(self, &mut page)?;
        clusters::write(self, &mut page)?;
        kernel::write(self, &mut page)
    }
}

/// A metric's name, unit and help.
struct Metric {
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
}

impl Metric {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            unit: None,
            help,
        }
    }

    fn unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }
}

/// Labels of one sample.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Where metrics are written, one family after another.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// A counter family; the encoder adds `_total`.
    fn counters<'b>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = (Labels<'b>, u64)>,
    ) -> fmt::Result {
        let mut family = self.begin(metric, MetricType::Counter)?;
        for (labels, value) in samples {
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
        }
        Ok(())
    }

    /// A gauge family.
    fn gauges<'b>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = (Labels<'b>, f64)>,
    ) -> fmt::Result {
        let mut family = self.begin(metric, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter(&mut self, metric: &Metric, value: u64) -> fmt::Result {
        self.begin(metric, MetricType::Counter)?
            .encode_counter::<NoLabelSet, u64, f64>(&value, None)
    }

    fn gauge(&mut self, metric: &Metric, value: f64) -> fmt::Result {
        self.begin(metric, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn begin<'s>(
        &'s mut self,
        metric: &'s Metric,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0
            .encode_descriptor(metric.name, metric.help, metric.unit.as_ref(), kind)
    }
}

#[cfg(test)]
mod tests;
