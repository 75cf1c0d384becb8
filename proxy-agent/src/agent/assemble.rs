//! Puts together what `status`, `/metrics` and `/readyz` show, at the moment they are asked.

mod endpoints;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::admin::{ExplainQuery, Views};
use crate::bpf::Kernel;
use crate::capture::CaptureStatus;
use crate::cli::{Capture, RunArgs};
use crate::explain;
use crate::metrics;
use crate::metrics::traffic::Traffic;
use crate::model::{
    Cluster, Listener, ListenerProtocol, ListenerVerdict, Place, Problem, Severity, Snapshot,
};
use crate::objects::{KindState, ObjectSet};
use crate::report::LeaseView;
use crate::source::dns;
use crate::status::{
    BpfStatus, ExplainedCluster, Explanation, KindStatus, Overview, PodStatus, ProgramStatus,
    ServiceStatus, SourceStatus, Status, TrafficStatus,
};

use super::STALE_AFTER;
use super::acceleration::Verdict;
use super::lapse::{in_effect, lapse};
use super::phase::{Phase, State};
use super::steering::Ejections;
use super::tables::routes;

/// Problems in `status` at most; `overview` counts them all.
const MAX_PROBLEMS: usize = 1_000;

/// Everything that the views read. Shared with the running agent.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) started: Instant,
    pub(super) args: RunArgs,
    pub(super) root: PathBuf,
    pub(super) kernel: Arc<Kernel>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) capture: CaptureStatus,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) sources: Vec<watch::Receiver<Arc<ObjectSet>>>,
    pub(super) ejections: Ejections,
    pub(super) phase: Phase,
    pub(super) acceleration: Arc<Verdict>,
    pub(super) lease: LeaseView,
}

/// The admin server's views.
pub(super) fn views(parts: &Arc<Parts>) -> Views {
    let (status, metrics, ready, explain) = (
        Arc::clone(parts),
        Arc::clone(parts),
        Arc::clone(parts),
        Arc::clone(parts),
    );
    Views {
        status: Box::new(move || status.status()),
        explain: Box::new(move |query| explain.explain(query)),
        metrics: Box::new(move || {
            metrics::encode(&metrics.traffic, &metrics.brief(&metrics.snapshot()))
        }),
        ready: Box::new(move || ready.not_ready(&ready.kernel.attached())),
    }
}

impl Parts {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    fn status(&self) -> Status {
        let snapshot = self.snapshot();
        Status {
            services: services(&snapshot, &self.traffic),
            routes: routes(&snapshot),
            endpoints: self.endpoints(&snapshot),
            ..self.brief(&snapshot)
        }
    }

    /// Without the lists that grow with the cluster: metrics are asked for often.
    fn brief(&self, snapshot: &Snapshot) -> Status {
        let bpf = self.bpf();
        let pods = self.pods(snapshot, &bpf.programs);
        let problems = snapshot.problems.iter().take(MAX_PROBLEMS);
        let unknown_kinds = snapshot.unknown_kinds.iter();
        Status {
            overview: self.overview(snapshot, &pods, &bpf),
            pods,
            services: Vec::new(),
            routes: Vec::new(),
            endpoints: Vec::new(),
            bpf,
            problems: problems.map(|one| Problem::clone(one)).collect(),
            unknown_kinds: unknown_kinds
                .map(|(id, place): &(_, Place)| format!("{id} ({place})"))
                .collect(),
        }
    }

    fn explain(&self, query: ExplainQuery) -> Result<Explanation, String> {
        let query = explain::Query {
            namespace: query.namespace,
            pod: query.pod,
            method: query.method,
            url: query.url.to_string(),
            headers: query.headers,
        };
        let snapshot = self.snapshot();
        let pods = self.pods(&snapshot, &self.kernel.attached());
        let pod = pods
            .iter()
            .find(|pod| pod.namespace == query.namespace && pod.name == query.pod);
        let mut explanation =
            explain::explain(&snapshot, &query).map_err(|error| error.to_string())?;
        if let Some(pod) = pod {
            explanation.from = in_effect(pod);
        }
        for cluster in &mut explanation.clusters {
            self.count(cluster);
        }
        Ok(explanation)
    }

    /// Adds what became of requests to the endpoints of a cluster so far.
    fn count(&self, cluster: &mut ExplainedCluster) {
        for endpoint in &mut cluster.endpoints {
            if let Ok(address) = endpoint.address.parse() {
                let totals = self.traffic.endpoint(&cluster.name, address);
                endpoint.connect_failures_total = totals.connect_failures_total;
                endpoint.in_flight = totals.sent_total.saturating_sub(totals.ended_total);
            }
        }
    }

    fn bpf(&self) -> BpfStatus {
        let mut bpf = self.kernel.status().unwrap_or_else(|error| {
            tracing::error!(%error, "the kernel side cannot be read");
            BpfStatus::default()
        });
        bpf.acceleration = self.acceleration.status(&self.traffic);
        bpf
    }

    fn heartbeat_age(&self) -> Duration {
        let age = self.kernel.heartbeat_age(self.args.workers);
        age.unwrap_or(Duration::MAX)
    }

    fn pods(&self, snapshot: &Snapshot, programs: &[ProgramStatus]) -> Vec<PodStatus> {
        let mut pods = self.capture.pods(snapshot);
        let lapse = lapse(programs, self.heartbeat_age());
        for pod in &mut pods {
            if let (true, Some(lapse)) = (pod.captured, &lapse) {
                pod.captured = lapse.captured;
                pod.reason.clone_from(&lapse.reason);
            }
            let totals = self.traffic.pod(&pod.uid);
            pod.connections_total = totals.accepted_total;
            pod.connections_open = totals.accepted_total.saturating_sub(totals.closed_total);
        }
        pods
    }

    /// Why the agent is not ready: one line for each thing that is not in effect.
    pub(super) fn not_ready(&self, programs: &[ProgramStatus]) -> Vec<String> {
        let phase = self.phase.get();
        let mut reasons: Vec<_> = phase.reason().into_iter().collect();
        if matches!(phase, State::HandedOver(_) | State::Draining) {
            return reasons;
        }
        for source in &self.sources {
            let set = source.borrow();
            if !set.synced {
                reasons.push(format!("source {} has not been read yet", set.source));
            }
        }
        if !reasons.is_empty() && phase != State::Serving {
            return reasons;
        }
        if programs.is_empty() {
            reasons.push("the programs' state cannot be read from the kernel".to_owned());
        }
        for program in programs.iter().filter(|program| !program.attached) {
            reasons.push(format!(
                "program {} (id {}) is not attached to {}",
                program.name,
                program.id,
                self.root.display()
            ));
        }
        let age = self.heartbeat_age();
        if age > STALE_AFTER {
            reasons.push(format!(
                "a worker's heartbeat is {} ms old: connections pass uncaptured",
                millis(age)
            ));
        }
        if !self.capture.has_scanned() {
            reasons.push("the node's pods have not been listed yet".to_owned());
        }
        reasons
    }

    fn overview(&self, snapshot: &Snapshot, pods: &[PodStatus], bpf: &BpfStatus) -> Overview {
        let not_ready = self.not_ready(&bpf.programs);
        let captured = pods.iter().filter(|pod| pod.captured).count();
        let count = |severity| {
            let problems = snapshot.problems.iter();
            problems.filter(|p| p.severity == severity).count()
        };
        let proxied =
            |listener: &&Arc<Listener>| matches!(listener.verdict, ListenerVerdict::Proxy(_));
        let workers = self.traffic.workers();
        Overview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.args.node_name.clone(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            state: self.state(&not_ready).to_owned(),
            not_ready,
            cgroup_root: self.root.display().to_string(),
            capture: match self.args.capture {
                Capture::All => "all",
                Capture::Labelled => "labelled",
            }
            .to_owned(),
            workers: self.args.workers,
            heartbeat_age_ms: millis(self.heartbeat_age()),
            snapshot_version: snapshot.version,
            snapshot_age_ms: age(snapshot.created),
            sources: self
                .sources
                .iter()
                .filter_map(|set| source(&set.borrow()))
                .collect(),
            pods_captured: captured,
            pods_not_captured: pods.len() - captured,
            enrolments: self.capture.enrolments(),
            lease: self.lease.status(),
            services_proxied: snapshot.listeners.iter().filter(proxied).count(),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            connections_open: workers.accepted_total.saturating_sub(workers.closed_total),
            requests_total: self.traffic.totals().requests_total,
        }
    }

    fn state(&self, not_ready: &[String]) -> &'static str {
        if let Some(name) = self.phase.get().name() {
            name
        } else if not_ready.is_empty() {
            "serving"
        } else if self.snapshot().version == 0 || !self.capture.has_scanned() {
            "starting"
        } else {
            "degraded"
        }
    }
}

/// A source; that of names stands there while any is to be resolved.
fn source(set: &ObjectSet) -> Option<SourceStatus> {
    let idle = set.objects.is_empty() && set.problems.is_empty() && set.trouble.is_empty();
    let shown = !idle || &*set.source != dns::SOURCE;
    shown.then(|| SourceStatus {
        name: set.source.to_string(),
        synced: set.synced,
        objects: set.objects.len(),
        last_change_ms: age(set.changed),
        trouble: set.trouble.clone(),
        kinds: set.kinds.iter().map(kind).collect(),
    })
}

fn kind(kind: &KindState) -> KindStatus {
    KindStatus {
        kind: kind.kind.to_string(),
        state: kind.phase.name().to_owned(),
        version: kind.version.to_owned(),
        objects: kind.objects,
        since_ms: age(kind.since),
        detail: kind.detail.clone(),
    }
}

fn services(snapshot: &Snapshot, traffic: &Traffic) -> Vec<ServiceStatus> {
    let service = |listener: &Arc<Listener>| {
        let cluster = snapshot.cluster(listener.cluster);
        let (mode, reason) = match listener.verdict {
            ListenerVerdict::Proxy(ListenerProtocol::Http) => ("http", ""),
            ListenerVerdict::Proxy(ListenerProtocol::Tcp) => ("tcp", ""),
            ListenerVerdict::Direct => ("direct", ""),
            ListenerVerdict::Pass(reason) => ("pass", reason.name()),
        };
        ServiceStatus {
            namespace: listener.namespace.to_string(),
            name: listener.service.to_string(),
            port: listener.port,
            port_name: listener.port_name.to_string(),
            mode: mode.to_owned(),
            reason: reason.to_owned(),
            addresses: addresses(snapshot, listener),
            cluster: text(cluster, |c| c.name.to_string()),
            balance: text(cluster, balance),
            endpoints: cluster.map_or(0, |c| c.endpoints.len()),
            traffic: cluster.map_or_else(TrafficStatus::default, |c| traffic.cluster(&c.name)),
        }
    };
    snapshot.listeners.iter().map(service).collect()
}

/// The addresses that lead to this listener: another one may have taken one first.
fn addresses(snapshot: &Snapshot, listener: &Arc<Listener>) -> Vec<String> {
    let all = listener.addresses.iter();
    let owned = all.filter(|address| {
        let owner = snapshot.by_address.get(address);
        owner.is_none_or(|owner| Arc::ptr_eq(owner, listener))
    });
    owned.map(ToString::to_string).collect()
}

fn text(cluster: Option<&Arc<Cluster>>, read: impl Fn(&Cluster) -> String) -> String {
    cluster.map_or_else(String::new, |cluster| read(cluster))
}

fn age(since: SystemTime) -> u64 {
    // A clock that was set back makes no age, rather than a wrong one.
    since.elapsed().map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How endpoints are chosen, and for clients of which namespaces otherwise.
fn balance(of: &Cluster) -> String {
    let own = of.own_policies.iter();
    let own = own.map(|(namespace, own)| format!(", {namespace}: {}", own.balance.name()));
    [of.balance.name().to_owned()]
        .into_iter()
        .chain(own)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Compiler, Options};
    use crate::objects::{Format, Origin, parse};

    #[test]
    fn an_address_is_shown_at_the_service_that_has_it_alone() {
        let service = |name: &str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: ns}}\n\
                 spec: {{clusterIP: 10.96.0.10, ports: [{{name: http, port: 80}}]}}\n---\n"
            )
        };
        let text = service("first") + &service("second");
        let parsed = parse(&text, &Arc::from("t.yaml"), Format::Yaml);
        let mut set = ObjectSet::unsynced("test".into(), Origin::Files);
        set.objects = parsed.objects.into_iter().map(Arc::new).collect();
        let snapshot = Compiler::default().compile(&[Arc::new(set)], &Options::default());
        let shown = services(&snapshot, &Traffic::new());
        let shown: Vec<_> = shown
            .iter()
            .map(|one| (&*one.name, &*one.addresses))
            .collect();
        let address = ["10.96.0.10:80".to_owned()];
        assert_eq!(shown, [("first", &address[..]), ("second", &[][..])]);
    }
}
