//! Every number that was measured, and what several rounds of one say together.

use std::fmt;

use serde::Serialize;

use super::kind::Kind;
use super::work::Work;

/// What a number says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Measure {
    RequestsPerS,
    BytesPerS,
    P50Us,
    P99Us,
    /// CPU time of the proxies, microseconds for each request.
    CpuUs,
    ResidentKib,
    /// Of it, what no file holds.
    AnonymousKib,
    /// Resident memory for each connection, bytes.
    ConnectionBytes,
    /// Resident memory and that of the BPF maps.
    MemoryKib,
    /// Of the BPF maps alone.
    MapsKib,
    /// Mean time of one run, nanoseconds.
    MeanNs,
    /// Until the effect is there, milliseconds.
    ElapsedMs,
    /// CPU time of all workers together, milliseconds.
    WorkersMs,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestsPerS => "requests/s",
            Self::BytesPerS => "bytes/s",
            Self::P50Us => "µs p50",
            Self::P99Us => "µs p99",
            Self::CpuUs => "µs of CPU a request",
            Self::ResidentKib => "KiB resident",
            Self::AnonymousKib => "KiB of it in no file",
            Self::ConnectionBytes => "bytes a connection",
            Self::MemoryKib => "KiB with BPF maps",
            Self::MapsKib => "KiB of BPF maps",
            Self::MeanNs => "ns a run",
            Self::ElapsedMs => "ms",
            Self::WorkersMs => "ms of the workers",
        })
    }
}

/// One number of one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) round: u32,
    pub(super) work: Work,
    pub(super) kind: Kind,
    pub(super) measure: Measure,
    pub(super) value: f64,
}

/// What one run showed.
pub(super) type Sample = Vec<(Measure, f64)>;

/// Every number, and what there is none of.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Figures {
    all: Vec<Figure>,
    unavailable: Vec<(Kind, String)>,
}

impl Figures {
    /// Keeps what a run showed, and says it.
    pub(super) fn add(&mut self, round: u32, work: Work, kind: Kind, sample: Sample) {
        let said: Vec<_> = sample
            .iter()
            .map(|(measure, value)| format!("{value:.1} {measure}"))
            .collect();
        println!("bench: round {round}, {work}, {kind}: {}", said.join(", "));
        self.all
            .extend(sample.into_iter().map(|(measure, value)| Figure {
                round,
                work,
                kind,
                measure,
                value,
            }));
    }

    /// Keeps why a path cannot be measured, and says it.
    pub(super) fn unavailable(&mut self, kind: Kind, why: String) {
        println!("bench: {kind}: not available: {why}");
        self.unavailable.push((kind, why));
    }

    /// Why a path was not measured, if it could not be.
    pub(super) fn why_not(&self, kind: Kind) -> Option<&str> {
        let found = self.unavailable.iter().find(|(one, _)| *one == kind);
        found.map(|(_, why)| why.as_str())
    }

    /// The values of all rounds, in order.
    pub(super) fn rounds(&self, work: Work, kind: Kind, measure: Measure) -> Vec<f64> {
        let of =
            |figure: &&Figure| (figure.work, figure.kind, figure.measure) == (work, kind, measure);
        self.all
            .iter()
            .filter(of)
            .map(|figure| figure.value)
            .collect()
    }

    /// What the rounds say together; `None` if it was not measured.
    pub(super) fn spread(&self, work: Work, kind: Kind, measure: Measure) -> Option<Spread> {
        Spread::of(&self.rounds(work, kind, measure))
    }
}

/// Several values of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: *sorted.get(sorted.len() / 2)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_told_apart_by_work_path_and_measure() {
        let mut figures = Figures::default();
        for (round, value) in [(1, 30.0), (2, 10.0), (3, 20.0)] {
            let sample = vec![(Measure::RequestsPerS, value), (Measure::CpuUs, 1.0)];
            figures.add(round, Work::KeepAlive, Kind::Agent, sample);
        }
        figures.add(
            1,
            Work::Http2,
            Kind::Agent,
            vec![(Measure::RequestsPerS, 5.0)],
        );

        let spread = figures.spread(Work::KeepAlive, Kind::Agent, Measure::RequestsPerS);
        let expected = Spread {
            median: 20.0,
            min: 10.0,
            max: 30.0,
        };
        assert_eq!(spread, Some(expected));
        let none = figures.spread(Work::KeepAlive, Kind::Envoy, Measure::RequestsPerS);
        assert_eq!(none, None);
    }
}
