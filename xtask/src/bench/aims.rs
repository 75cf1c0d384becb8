//! The aims, row by row, and what the figures say of each.

use serde::Serialize;

use super::figures::{Figures, Measure, Spread};
use super::kind::Kind;
use super::work::Work;

/// How far a row may go.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// How a row's value is made of the figures.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// One path's value in units of another's.
    Ratio(Measure, Kind, Kind),
    /// What one path adds to no mesh in units of what another adds.
    Added(Measure, Kind, Kind),
    /// A path's own value, divided by so much, in this unit.
    Own(Measure, Kind, f64, &'static str),
}

/// One row.
#[derive(Clone, Copy, Debug)]
struct Aim {
    what: &'static str,
    work: Work,
    value: Value,
    bound: Bound,
}

/// What became of an aim.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) aim: String,
    /// The medians that were compared.
    pub(super) medians: String,
    pub(super) unit: &'static str,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// What there is to say of an aim.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It was measured.
    Measured {
        #[serde(flatten)]
        spread: Spread,
        met: bool,
    },
    /// There is nothing to measure, and why.
    NotAvailable(String),
}

const fn aim(what: &'static str, work: Work, value: Value, bound: Bound) -> Aim {
    Aim {
        what,
        work,
        value,
        bound,
    }
}

use Bound::{AtLeast, AtMost};
use Kind::{
    Agent, AgentAccelerated, AgentDirect, AgentDirectAccelerated, Dnat, Envoy, EnvoyTwice, Haproxy,
    NoMesh, TcpCopy,
};
use Measure::{
    ConnectionBytes, CpuUs, ElapsedMs, MeanNs, MemoryKib, P50Us, P99Us, RequestsPerS, ResidentKib,
    WorkersMs,
};
use Value::{Added, Own, Ratio};
use Work::{
    ConstantRate, DirectKeepAlive, DirectNewConnections, Grpc, Hook, Http2, Idle, IdleConnections,
    KeepAlive, NewConnections, Scale,
};

const AIMS: &[Aim] = &[
    aim(
        "direct mode, requests/s : no mesh",
        DirectKeepAlive,
        Ratio(RequestsPerS, AgentDirect, NoMesh),
        AtLeast(0.99),
    ),
    aim(
        "direct mode, a connection for each request : no mesh",
        DirectNewConnections,
        Ratio(RequestsPerS, AgentDirect, NoMesh),
        AtLeast(0.97),
    ),
    aim(
        "direct mode, a connection for each request : kube-proxy's DNAT",
        DirectNewConnections,
        Ratio(RequestsPerS, AgentDirect, Dnat),
        AtLeast(1.0),
    ),
    aim(
        "HTTP/1.1, requests/s : one Envoy sidecar",
        KeepAlive,
        Ratio(RequestsPerS, Agent, Envoy),
        AtLeast(2.5),
    ),
    aim(
        "HTTP/1.1, requests/s : two Envoy sidecars",
        KeepAlive,
        Ratio(RequestsPerS, Agent, EnvoyTwice),
        AtLeast(4.0),
    ),
    aim(
        "HTTP/1.1, requests/s : HAProxy sidecar",
        KeepAlive,
        Ratio(RequestsPerS, Agent, Haproxy),
        AtLeast(1.1),
    ),
    aim(
        "HTTP/1.1, CPU a request : Envoy sidecar",
        KeepAlive,
        Ratio(CpuUs, Agent, Envoy),
        AtMost(0.35),
    ),
    aim(
        "HTTP/1.1, CPU a request : bare TCP copy",
        KeepAlive,
        Ratio(CpuUs, Agent, TcpCopy),
        AtMost(1.35),
    ),
    aim(
        "HTTP/2, requests/s : Envoy sidecar",
        Http2,
        Ratio(RequestsPerS, Agent, Envoy),
        AtLeast(2.0),
    ),
    aim(
        "HTTP/2, requests/s : HAProxy sidecar",
        Http2,
        Ratio(RequestsPerS, Agent, Haproxy),
        AtLeast(1.0),
    ),
    aim(
        "gRPC, calls/s : Envoy sidecar",
        Grpc,
        Ratio(RequestsPerS, Agent, Envoy),
        AtLeast(2.0),
    ),
    aim(
        "gRPC, calls/s : HAProxy sidecar",
        Grpc,
        Ratio(RequestsPerS, Agent, Haproxy),
        AtLeast(1.0),
    ),
    aim(
        "a connection for each request, requests/s : Envoy sidecar",
        NewConnections,
        Ratio(RequestsPerS, Agent, Envoy),
        AtLeast(1.5),
    ),
    aim(
        "acceleration, requests/s : the agent without",
        KeepAlive,
        Ratio(RequestsPerS, AgentAccelerated, Agent),
        AtLeast(1.5),
    ),
    aim(
        "direct mode with acceleration, requests/s : no mesh",
        DirectKeepAlive,
        Ratio(RequestsPerS, AgentDirectAccelerated, NoMesh),
        AtLeast(1.8),
    ),
    aim(
        "latency added at 2,000 requests/s, p50 : Envoy sidecar",
        ConstantRate,
        Added(P50Us, Agent, Envoy),
        AtMost(0.4),
    ),
    aim(
        "latency added at 2,000 requests/s, p99 : Envoy sidecar",
        ConstantRate,
        Added(P99Us, Agent, Envoy),
        AtMost(0.4),
    ),
    aim(
        "resident memory, idle",
        Idle,
        Own(ResidentKib, Agent, 1_024.0, "MiB"),
        AtMost(15.0),
    ),
    aim(
        "resident memory of an idle keep-alive connection",
        IdleConnections,
        Own(ConnectionBytes, Agent, 1_024.0, "KiB"),
        AtMost(8.0),
    ),
    aim(
        "memory with 10,000 Services and 100,000 endpoints, BPF maps included",
        Scale,
        Own(MemoryKib, Agent, 1_024.0, "MiB"),
        AtMost(200.0),
    ),
    aim(
        "connect hook, mean",
        Hook,
        Own(MeanNs, Agent, 1.0, "ns"),
        AtMost(1_000.0),
    ),
    aim(
        "connect hook in direct mode, mean",
        Hook,
        Own(MeanNs, AgentDirect, 1.0, "ns"),
        AtMost(1_000.0),
    ),
    aim(
        "one endpoint of 100,000 changes, until a direct connection goes there",
        Scale,
        Own(ElapsedMs, AgentDirect, 1.0, "ms"),
        AtMost(50.0),
    ),
    aim(
        "one endpoint of 100,000 changes, until a request goes there",
        Scale,
        Own(ElapsedMs, Agent, 1.0, "ms"),
        AtMost(50.0),
    ),
    aim(
        "the same, time of the workers",
        Scale,
        Own(WorkersMs, Agent, 1.0, "ms"),
        AtMost(5.0),
    ),
];

/// What the figures say of each aim; rows that were not measured are left out.
pub(super) fn judge(figures: &Figures) -> Vec<Row> {
    AIMS.iter().filter_map(|aim| aim.judge(figures)).collect()
}

impl Aim {
    fn judge(&self, figures: &Figures) -> Option<Row> {
        let unit = match self.value {
            Ratio(..) | Added(..) => "×",
            Own(_, _, _, unit) => unit,
        };
        let (sign, bound) = match self.bound {
            AtLeast(bound) => ("≥", bound),
            AtMost(bound) => ("≤", bound),
        };
        Some(Row {
            what: self.what,
            aim: format!("{sign} {bound} {unit}"),
            medians: self.medians(figures).unwrap_or_default(),
            unit,
            outcome: self.outcome(figures)?,
        })
    }

    /// `None` if it was not asked for.
    fn outcome(&self, figures: &Figures) -> Option<Outcome> {
        let ours = match self.value {
            Ratio(_, ours, _) | Added(_, ours, _) | Own(_, ours, ..) => ours,
        };
        if let Some(why) = figures.why_not(ours) {
            return Some(Outcome::NotAvailable(why.to_owned()));
        }
        let spread = Spread::of(&self.values(figures))?;
        let met = match self.bound {
            AtLeast(bound) => spread.median >= bound,
            AtMost(bound) => spread.median <= bound,
        };
        Some(Outcome::Measured { spread, met })
    }

    /// One value for each round.
    fn values(&self, figures: &Figures) -> Vec<f64> {
        let rounds = |path, measure| figures.rounds(self.work, path, measure);
        let pairs = |measure, ours, theirs| {
            rounds(ours, measure)
                .into_iter()
                .zip(rounds(theirs, measure))
        };
        match self.value {
            Ratio(measure, ours, theirs) => pairs(measure, ours, theirs)
                .map(|(ours, theirs)| ours / theirs)
                .collect(),
            Added(measure, ours, theirs) => pairs(measure, ours, theirs)
                .zip(rounds(NoMesh, measure))
                .map(|((ours, theirs), without)| (ours - without) / (theirs - without))
                .collect(),
            Own(measure, path, unit, _) => rounds(path, measure)
                .into_iter()
                .map(|value| value / unit)
                .collect(),
        }
    }

    fn medians(&self, figures: &Figures) -> Option<String> {
        let median = |path, measure| {
            let spread = figures.spread(self.work, path, measure)?;
            Some(spread.median)
        };
        Some(match self.value {
            Ratio(measure, ours, theirs) => {
                let (ours, theirs) = (median(ours, measure)?, median(theirs, measure)?);
                let places = usize::from(ours < 1_000.0);
                format!("{ours:.places$} : {theirs:.places$}")
            }
            Added(measure, ours, theirs) => {
                let without = median(NoMesh, measure)?;
                let (ours, theirs) = (median(ours, measure)?, median(theirs, measure)?);
                format!("{:.0} : {:.0} µs", ours - without, theirs - without)
            }
            Own(..) => String::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(agent: &[f64], envoy: &[f64]) -> Figures {
        let mut figures = Figures::default();
        for (path, values) in [(Agent, agent), (Envoy, envoy)] {
            for (round, value) in (1..).zip(values) {
                figures.add(round, KeepAlive, path, vec![(RequestsPerS, *value)]);
            }
        }
        figures
    }

    #[test]
    fn a_ratio_is_that_of_each_round_and_its_median_decides() {
        let rows = judge(&figures(&[50.0, 90.0, 80.0], &[20.0, 30.0, 40.0]));
        let row = rows.first().unwrap();
        let expected = Spread {
            median: 2.5,
            min: 2.0,
            max: 3.0,
        };
        let measured = |spread, met| Outcome::Measured { spread, met };
        assert_eq!(row.outcome, measured(expected, true));
        let rows = judge(&figures(&[50.0], &[25.0]));
        let missed = Spread::of(&[2.0]).unwrap();
        assert_eq!(rows.first().unwrap().outcome, measured(missed, false));
    }

    #[test]
    fn what_this_build_does_not_have_is_a_row_that_says_so() {
        let mut figures = figures(&[1.0], &[]);
        figures.unavailable(AgentAccelerated, "no acceleration".to_owned());
        let rows = judge(&figures);
        let expected = Outcome::NotAvailable("no acceleration".to_owned());
        assert_eq!(rows.first().unwrap().outcome, expected);
        assert_eq!(rows.len(), 1);
    }

    #[test]
    fn what_was_not_measured_is_no_row() {
        assert!(judge(&figures(&[1.0], &[])).is_empty());
    }

    #[test]
    fn added_latency_leaves_out_what_the_network_takes() {
        let mut figures = Figures::default();
        for (path, value) in [(NoMesh, 100.0), (Agent, 140.0), (Envoy, 200.0)] {
            figures.add(1, ConstantRate, path, vec![(P50Us, value)]);
        }
        let rows = judge(&figures);
        let row = rows.first().unwrap();
        let Outcome::Measured { spread, met } = &row.outcome else {
            panic!("{row:?}");
        };
        assert!((spread.median - 0.4).abs() < 1e-9);
        assert!(met);
    }
}
