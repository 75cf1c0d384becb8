//! The product's own view of the world, in Envoy's words. Plain data: no I/O, no Kubernetes.
//!
//! `Listener → Route → Cluster → Endpoint`: a connection to a [`Listener`]'s address is matched
//! against its [`RouteTable`], which names a [`Cluster`], whose [`Endpoint`]s share the load.

mod cluster;
mod cluster_policy;
mod clusters;
mod direct;
mod endpoint;
mod failure_accrual;
mod listener;
mod path;
mod pod;
mod policy;
mod problem;
mod route;
mod route_parent;
mod route_table;
mod snapshot;
mod stream;

pub use cluster::{BalancePolicy, ClientPolicy, Cluster, ClusterId, RetryShare, UpstreamProtocol};
pub use cluster_policy::{
    ClusterPolicies, ConnectionLimits, ConsistentHash, Distribution, HashKey, HashTable, Keepalive,
    LocalityPolicy, OutlierDetection, RequestLimits, Warmup,
};
pub use clusters::{Clusters, Part as ClusterPart};
pub use direct::{DirectPolicy, StaleConnections};
pub use endpoint::{Endpoint, LeftOut, WhyLeftOut};
pub use failure_accrual::FailureAccrual;
pub use listener::{Listener, ListenerProtocol, ListenerVerdict, PassReason, Shadowed};
pub use path::{PathError, normalise};
pub use pod::{Accelerates, CaptureDecision, NotCaptured, Pod};
pub use policy::{
    Abort, AbortWith, Backoff, Cors, Delay, DelayTime, Listed, Mirror, Policies, Retry,
    RetryBudget, RetryOn, Session, SessionCarrier, Share, StreamLimits,
};
pub use problem::{ObjectId, Place, Problem, Severity};
pub use route::{
    Action, Destination, Expression, Filters, HeaderEdits, HeaderMatch, Match, MethodMatch,
    PathMatch, PathRewrite, QueryMatch, Redirect, RedirectPort, Rule, SourceMatch, StringMatch,
    Timeouts, WeightedDestination,
};
pub use route_parent::{Condition, ConditionReason, ParentRef, RouteParent};
pub use route_table::RouteTable;
pub use snapshot::{ByAddress, Hosts, Snapshot};
pub use stream::{ServerName, StreamRule, StreamScope, StreamTable};
