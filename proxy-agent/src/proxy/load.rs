//! A worker's own view of clusters and endpoints: what is open on them and whose turn it is.
//!
//! Nothing here is shared between workers. State lives as long as its endpoint is in the snapshot,
//! and the endpoint's idle connections with it: an endpoint that goes takes them along.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::balance::{self, Draw, Load, RoundRobin};
use crate::metrics::traffic::{ClusterRecorder, EndpointRecorder, Traffic};
use crate::model::{BalancePolicy, Cluster, RetryBudget};
use crate::retry;

use super::budgets::Budgets;
use super::upstream::Pool;

/// Number of a pod on this worker: cheaper to look up than its uid.
pub(super) type PodIndex = u64;

/// One endpoint of one cluster.
#[derive(Debug)]
pub(super) struct EndpointState {
    pub(super) address: SocketAddr,
    pub(super) recorder: Arc<EndpointRecorder>,
    /// Connections by the pod in whose netns they were made: never lent to another pod.
    pub(super) pools: RefCell<BTreeMap<PodIndex, Pool>>,
    in_flight: Cell<u32>,
    last_pick: Cell<u64>,
}

impl Load for Rc<EndpointState> {
    fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    fn last_pick(&self) -> u64 {
        self.last_pick.get()
    }
}

/// One cluster.
#[derive(Debug)]
pub(super) struct ClusterState {
    pub(super) cluster: Arc<Cluster>,
    pub(super) recorder: Arc<ClusterRecorder>,
    endpoints: Vec<Rc<EndpointState>>,
    round: RoundRobin,
    picks: Cell<u64>,
    /// Retries under way.
    retries: Rc<Cell<u32>>,
    /// Those of rules that have one of their own.
    budgets: Rc<Budgets>,
}

impl ClusterState {
    /// Builds the state of `cluster`, keeping that of the endpoints which `former` had too.
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        former: Option<&Self>,
        traffic: &Traffic,
        offset: usize,
    ) -> Self {
        let kept: HashMap<SocketAddr, &Rc<EndpointState>> = former
            .into_iter()
            .flat_map(|state| &state.endpoints)
            .map(|endpoint| (endpoint.address, endpoint))
            .collect();
        let endpoint = |address: SocketAddr| match kept.get(&address) {
            Some(endpoint) => Rc::clone(endpoint),
            None => Rc::new(EndpointState {
                address,
                recorder: traffic.endpoint_recorder(&cluster.name, address),
                pools: RefCell::default(),
                in_flight: Cell::new(0),
                last_pick: Cell::new(0),
            }),
        };
        Self {
            endpoints: cluster
                .endpoints
                .iter()
                .map(|e| endpoint(e.address))
                .collect(),
            recorder: match former {
                Some(former) => Arc::clone(&former.recorder),
                None => traffic.cluster_recorder(&cluster.name),
            },
            round: RoundRobin::new(former.map_or(offset, |f| f.round.turn())),
            picks: Cell::new(former.map_or(0, |f| f.picks.get())),
            retries: former.map(|f| Rc::clone(&f.retries)).unwrap_or_default(),
            budgets: former.map(|f| Rc::clone(&f.budgets)).unwrap_or_default(),
            cluster: Arc::clone(cluster),
        }
    }

    /// Chooses the endpoint of the next try; those in `tried` are passed over.
    pub(super) fn pick(&self, draw: &Draw, tried: &[SocketAddr]) -> Option<Rc<EndpointState>> {
        let first = match self.cluster.balance {
            BalancePolicy::LeastRequest => balance::least_request(&self.endpoints, draw),
            BalancePolicy::RoundRobin => self.round.pick(self.endpoints.len()),
            BalancePolicy::Random => {
                (!self.endpoints.is_empty()).then(|| draw.below(self.endpoints.len()))
            }
        }?;
        let (before, from) = self.endpoints.split_at(first);
        let endpoint = from
            .iter()
            .chain(before)
            .find(|endpoint| !tried.contains(&endpoint.address))?;
        self.picks.set(self.picks.get() + 1);
        endpoint.last_pick.set(self.picks.get());
        Some(Rc::clone(endpoint))
    }

    /// A request came whose rule has this budget.
    pub(super) fn deposit(&self, of: &RetryBudget) {
        self.budgets.deposit(of);
    }

    /// Room for one more retry, kept until the value is dropped; `None` if the cluster, or the
    /// budget of the request's rule, has none.
    pub(super) fn retry(&self, of: Option<&RetryBudget>) -> Option<OpenRetry> {
        let under_way = self.retries.get();
        let room = match of {
            Some(of) => self.budgets.withdraw(of),
            None => retry::within_budget(self.recorder.requests_in_flight(), under_way),
        };
        room.then(|| {
            self.retries.set(under_way + 1);
            OpenRetry(Rc::clone(&self.retries))
        })
    }

    /// Every endpoint.
    pub(super) fn endpoints(&self) -> &[Rc<EndpointState>] {
        &self.endpoints
    }
}

/// A retry under way. Counts down when dropped.
#[derive(Debug)]
pub(super) struct OpenRetry(Rc<Cell<u32>>);

impl Drop for OpenRetry {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A request, or an opaque connection, that is open on an endpoint. Counts down when dropped.
#[derive(Debug)]
pub(super) struct OpenOnEndpoint(Rc<EndpointState>);

impl OpenOnEndpoint {
    pub(super) fn new(endpoint: Rc<EndpointState>) -> Self {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        endpoint.recorder.sent();
        Self(endpoint)
    }
}

impl OpenOnEndpoint {
    /// The endpoint's address.
    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl Drop for OpenOnEndpoint {
    fn drop(&mut self) {
        self.0
            .in_flight
            .set(self.0.in_flight.get().saturating_sub(1));
        self.0.recorder.ended();
    }
}
