//! What `status` shows: the JSON of the admin socket, as plain data.
//!
//! Field names are API: scripts read them. Times are Unix milliseconds, durations are in the unit
//! that the name ends in. Ages are counted by the agent at the moment of the answer.

mod explanation;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Problem;

pub use explanation::{ExplainedCluster, ExplainedEndpoint, Explanation};

/// Everything: `GET /status`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Status {
    /// The first screen.
    pub overview: Overview,
    /// Pods that were seen on this node, by cgroup or by object.
    pub pods: Vec<PodStatus>,
    /// Service ports.
    pub services: Vec<ServiceStatus>,
    /// Route tables.
    pub routes: Vec<RouteStatus>,
    /// Endpoints of every cluster.
    pub endpoints: Vec<EndpointStatus>,
    /// Programs, maps and counters in the kernel.
    pub bpf: BpfStatus,
    /// What is wrong with the configuration.
    pub problems: Vec<Problem>,
    /// Objects of kinds that are not read, as `Kind.group namespace/name (place)`.
    pub unknown_kinds: Vec<String>,
}

/// The agent as a whole.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Overview {
    /// Version of the agent.
    pub version: String,
    /// `--node-name`.
    pub node: String,
    /// Process id, in the agent's PID namespace.
    pub pid: u32,
    /// Seconds since start.
    pub uptime_s: u64,
    /// `serving`, `starting`, `draining` or `degraded`.
    pub state: String,
    /// Why not ready; empty when ready. The same lines as `/readyz`.
    pub not_ready: Vec<String>,
    /// The cgroup that the programs are attached to.
    pub cgroup_root: String,
    /// `labelled` or `all`.
    pub capture: String,
    /// Worker threads.
    pub workers: u32,
    /// Age of the oldest worker's heartbeat.
    pub heartbeat_age_ms: u64,
    /// Version of the snapshot in force.
    pub snapshot_version: u64,
    /// Age of that snapshot.
    pub snapshot_age_ms: u64,
    /// Sources and when they last spoke.
    pub sources: Vec<SourceStatus>,
    /// Pods whose connections are captured.
    pub pods_captured: usize,
    /// Pods that were seen and are not captured.
    pub pods_not_captured: usize,
    /// How long pods took to be captured, since the agent's start.
    pub enrolments: EnrolmentStatus,
    /// Which agent writes the state of routes; absent where this one has no API server, or has not
    /// asked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseStatus>,
    /// Service ports with the verdict proxy.
    pub services_proxied: usize,
    /// Problems of severity error.
    pub errors: usize,
    /// Problems of severity warning.
    pub warnings: usize,
    /// Connections from pods that are open now.
    pub connections_open: u64,
    /// Requests since start.
    pub requests_total: u64,
}

/// The Lease of those agents of a cluster that would write the state of routes.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct LeaseStatus {
    /// The pod whose agent writes, as far as it is known; empty if none has been seen.
    pub holder: String,
    /// Why the Lease cannot be looked at; empty if it can.
    pub trouble: String,
}

/// Upper bounds of [`EnrolmentStatus::buckets`], milliseconds.
pub const ENROLMENT_BOUNDS_MS: [u64; 12] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// Times from a pod's first process being seen, or from the decision to capture the pod if that came
/// later, to its capture.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct EnrolmentStatus {
    /// Enrolments.
    pub count: u64,
    /// Their times together, microseconds.
    pub sum_us: u64,
    /// How many took at most [`ENROLMENT_BOUNDS_MS`], each counted in its own bucket alone; the rest
    /// took longer.
    pub buckets: [u64; ENROLMENT_BOUNDS_MS.len()],
}

impl EnrolmentStatus {
    /// Adds one that took `us` microseconds.
    pub fn add(&mut self, us: u64) {
        self.count += 1;
        self.sum_us += us;
        let bucket = ENROLMENT_BOUNDS_MS.iter().position(|ms| us <= ms * 1_000);
        if let Some(bucket) = bucket {
            self.buckets[bucket] += 1;
        }
    }
}

/// One `--source`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SourceStatus {
    /// As given on the command line.
    pub name: String,
    /// Whether the first full read is done.
    pub synced: bool,
    /// Objects that it holds.
    pub objects: usize,
    /// Age of its last change.
    pub last_change_ms: u64,
    /// What ails it now, e.g. a directory that is gone; empty if nothing.
    pub trouble: String,
    /// How each kind fares; empty for sources that do not follow kinds one by one.
    #[serde(default)]
    pub kinds: Vec<KindStatus>,
}

/// One kind of a source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct KindStatus {
    /// Kind and group, as in `HTTPRoute.gateway.networking.k8s.io`.
    pub kind: String,
    /// `synced`, `syncing`, `absent`, `forbidden` or `lost`.
    pub state: String,
    /// The version that is read; empty if none is.
    pub version: String,
    /// Objects known of it.
    pub objects: usize,
    /// Age of the state.
    pub since_ms: u64,
    /// Why it is not synced; empty if there is nothing to say.
    pub detail: String,
}

/// One pod.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PodStatus {
    /// Namespace; empty if only the cgroup is known.
    pub namespace: String,
    /// Name; empty if only the cgroup is known.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Whether its connections are captured now (the `PODS` entry is there).
    pub captured: bool,
    /// Why not, or what is missing; empty when captured in full.
    pub reason: String,
    /// Listener addresses in its netns.
    pub listeners: Vec<String>,
    /// Netns cookie; 0 if not known.
    pub netns_cookie: u64,
    /// cgroup directory, relative to the root.
    pub cgroup: String,
    /// Time from its network namespace being seen to enrolment, microseconds; 0 if not enrolled.
    pub enrolment_us: u64,
    /// Connections accepted from it since enrolment.
    pub connections_total: u64,
    /// Of those, open now.
    pub connections_open: u64,
}

/// One Service port.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ServiceStatus {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Port.
    pub port: u16,
    /// Port name.
    pub port_name: String,
    /// `http`, `tcp`, or `pass`.
    pub mode: String,
    /// Why it passes, if it does.
    pub reason: String,
    /// Addresses with the port, as pods connect to them.
    pub addresses: Vec<String>,
    /// Cluster name.
    pub cluster: String,
    /// `least-request` or `round-robin`.
    pub balance: String,
    /// Endpoints that are usable.
    pub endpoints: usize,
    /// What it has done since start.
    pub traffic: TrafficStatus,
}

/// Counters of one cluster.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct TrafficStatus {
    /// HTTP requests answered, or opaque connections ended.
    pub requests_total: u64,
    /// Of those, with a status below 500 (or connections that were established).
    pub success_total: u64,
    /// `success_total / requests_total`, 0 to 1; 1 when there were none.
    pub success_rate: f64,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Time to the response's head: median, microseconds.
    pub latency_p50_us: u64,
    /// 90th percentile.
    pub latency_p90_us: u64,
    /// 99th percentile.
    pub latency_p99_us: u64,
    /// Opaque TCP connections.
    pub tcp_connections_total: u64,
    /// Bytes from pods, opaque TCP.
    pub tcp_received_bytes: u64,
    /// Bytes to pods, opaque TCP.
    pub tcp_sent_bytes: u64,
    /// Connections on an HTTP port that turned out to be opaque.
    pub http_turned_opaque_total: u64,
}

/// One route table.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RouteStatus {
    /// `namespace/service:port`, or `namespace host` for virtual hosts.
    pub parent: String,
    /// `all`, or the one namespace whose clients see it.
    pub clients: String,
    /// `implicit` or the objects it comes from.
    pub origin: String,
    /// One line a rule: conditions → action.
    pub rules: Vec<String>,
    /// Routes that would apply if others did not stand before them, each with the one that decides.
    #[serde(default)]
    pub shadowed: Vec<String>,
}

/// One endpoint of one cluster.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// Cluster name.
    pub cluster: String,
    /// Address with port.
    pub address: String,
    /// `namespace/name` of its pod, where known.
    pub pod: String,
    /// Node, where known.
    pub node: String,
    /// Requests or connections that were sent to it.
    pub requests_total: u64,
    /// Connects to it that failed.
    pub connect_failures_total: u64,
    /// Requests in flight now, over all workers.
    pub in_flight: u64,
    /// Direct connections from this node's pods to it that are open now. An address that serves
    /// several Services has the same in each.
    #[serde(default)]
    pub direct_open: u64,
    /// Direct connections to it that were established.
    #[serde(default)]
    pub direct_total: u64,
    /// Direct connections to it that were refused, or not answered.
    #[serde(default)]
    pub direct_failures_total: u64,
    /// Time from connect(2) to establishment, mean of `direct_total`; 0 without any.
    #[serde(default)]
    pub direct_connect_us: u64,
    /// For how long connections to it are still left out of `direct`; 0 if they are not.
    #[serde(default)]
    pub ejected_ms: u64,
}

/// The kernel side.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct BpfStatus {
    /// Programs as the kernel answers, not as the agent asked.
    pub programs: Vec<ProgramStatus>,
    /// Maps and their fill.
    pub maps: Vec<MapStatus>,
    /// `STATS`, summed over CPUs, in index order.
    pub counters: Vec<CounterStatus>,
    /// Entries of `ORIG_DST` that were never accepted and were swept after 60 s.
    pub flows_swept_total: u64,
    /// Acceleration.
    #[serde(default)]
    pub acceleration: AccelerationStatus,
}

/// Acceleration on this node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AccelerationStatus {
    /// Empty where it can be used, as far as is known; else why not.
    pub unusable: String,
    /// What is tried on this kernel when the first pod asks.
    pub self_test: Vec<SelfTestStatus>,
    /// Connections of pods to the agent that are accelerated now.
    pub connections_open: u64,
    /// Connections that ever were.
    pub connections_total: u64,
    /// Connections of the agent to pods that are accelerated now.
    #[serde(default)]
    pub to_pods_open: u64,
    /// Those that ever were.
    #[serde(default)]
    pub to_pods_total: u64,
    /// Connections of pods that ask for it that are not, or not in both directions, by reason.
    pub not_accelerated: BTreeMap<String, u64>,
}

/// One thing that acceleration relies on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SelfTestStatus {
    /// Stable name.
    pub name: String,
    /// `passed`, `failed`, `tolerated`, `running` or `not run: no pod asks`.
    #[serde(default)]
    pub result: String,
    /// Empty unless it failed, or is tolerated; else what was not well.
    pub failure: String,
}

/// One program.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ProgramStatus {
    /// Name.
    pub name: String,
    /// Kernel id.
    pub id: u32,
    /// Whether the kernel lists it as effective on the cgroup root.
    pub attached: bool,
    /// Other programs of that hook on the same cgroup, by id: they may have rewritten first.
    pub others: Vec<u32>,
    /// Runs that were timed: one second in thirty.
    #[serde(default)]
    pub timed_runs: u64,
    /// Mean time of these; 0 without any.
    #[serde(default)]
    pub mean_ns: u64,
}

/// One map.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct MapStatus {
    /// Name.
    pub name: String,
    /// Entries now.
    pub entries: u64,
    /// Entries at most.
    pub max_entries: u64,
    /// Memory that the kernel counts for it, bytes; before 6.3 that is what it can take at most.
    #[serde(default)]
    pub memory_bytes: u64,
}

/// One counter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct CounterStatus {
    /// Name.
    pub name: String,
    /// Value since start.
    pub value: u64,
}
