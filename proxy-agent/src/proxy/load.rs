//! A worker's own view of clusters and endpoints: what is open on them and whose turn it is.
//!
//! Nothing here is shared between workers. State lives as long as its endpoint is in the snapshot,
//! and the endpoint's idle connections with it: an endpoint that goes takes them along.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use crate::balance::{self, Draw, Load, RoundRobin};
use crate::metrics::traffic::{ClusterRecorder, EndpointRecorder, Traffic};
use crate::model::{BalancePolicy, Cluster, Endpoint, RetryBudget};
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
    weight: Cell<u32>,
    credit: Cell<i64>,
}

impl Load for Rc<EndpointState> {
    fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    fn last_pick(&self) -> u64 {
        self.last_pick.get()
    }

    fn weight(&self) -> u32 {
        self.weight.get()
    }

    fn credit(&self) -> i64 {
        self.credit.get()
    }

    fn set_credit(&self, credit: i64) {
        self.credit.set(credit);
    }
}

/// What the choice of an endpoint may depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    /// The address that it chose.
    pub(super) asked: IpAddr,
    /// Its pod's namespace.
    pub(super) namespace: &'a str,
}

/// One cluster.
#[derive(Debug)]
pub(super) struct ClusterState {
    pub(super) cluster: Arc<Cluster>,
    pub(super) recorder: Arc<ClusterRecorder>,
    endpoints: Vec<Rc<EndpointState>>,
    /// Whether the weights of the endpoints differ.
    weighted: bool,
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
        let endpoint = |of: &Endpoint| match kept.get(&of.address) {
            Some(endpoint) => Rc::clone(endpoint),
            None => Rc::new(EndpointState {
                address: of.address,
                recorder: traffic.endpoint_recorder(&cluster.name, of.address),
                pools: RefCell::default(),
                in_flight: Cell::new(0),
                last_pick: Cell::new(0),
                weight: Cell::new(of.weight),
                credit: Cell::new(0),
            }),
        };
        let endpoints: Vec<_> = cluster.endpoints.iter().map(endpoint).collect();
        weigh(&endpoints, cluster, former);
        let mut neighbours = cluster.endpoints.windows(2);
        Self {
            endpoints,
            weighted: neighbours.any(|pair| pair[0].weight != pair[1].weight),
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

    /// Chooses the endpoint of the client's next try; those in `tried` are passed over.
    pub(super) fn pick(
        &self,
        draw: &Draw,
        client: Client<'_>,
        tried: &[SocketAddr],
    ) -> Option<Rc<EndpointState>> {
        let balance = self.cluster.policy_for(client.namespace).balance;
        if balance == BalancePolicy::AsAsked {
            let mut endpoints = self.endpoints.iter();
            if let Some(endpoint) = endpoints.find(|one| one.address.ip() == client.asked) {
                // No other one will do.
                let tried = tried.contains(&endpoint.address);
                return (!tried).then(|| Rc::clone(endpoint));
            }
        }
        let first = self.turn(balance, draw)?;
        let (before, from) = self.endpoints.split_at(first);
        let endpoint = from
            .iter()
            .chain(before)
            .find(|endpoint| !tried.contains(&endpoint.address))?;
        self.picks.set(self.picks.get() + 1);
        endpoint.last_pick.set(self.picks.get());
        Some(Rc::clone(endpoint))
    }

    /// Index of the endpoint whose turn it is.
    fn turn(&self, balance: BalancePolicy, draw: &Draw) -> Option<usize> {
        let all = self.endpoints.as_slice();
        match balance {
            BalancePolicy::RoundRobin if self.weighted => balance::weighted(all, false),
            BalancePolicy::RoundRobin => self.round.pick(all.len()),
            BalancePolicy::Random if self.weighted => balance::weighted_random(all, draw.word()),
            BalancePolicy::Random => (!all.is_empty()).then(|| draw.below(all.len())),
            BalancePolicy::LeastRequest if self.weighted => balance::weighted(all, true),
            BalancePolicy::LeastRequest | BalancePolicy::AsAsked => {
                balance::least_request(all, draw)
            }
        }
    }

    /// A request came whose rule has this budget.
    pub(super) fn deposit(&self, of: &RetryBudget) {
        self.budgets.deposit(of);
    }

    /// Room for one more retry of a client's, kept until the value is dropped; `None` if the cluster,
    /// or the budget of the request's rule, has none.
    pub(super) fn retry(&self, of: Option<&RetryBudget>, client: &str) -> Option<OpenRetry> {
        let under_way = self.retries.get();
        let room = match of {
            Some(of) => self.budgets.withdraw(of),
            None => {
                let share = self.cluster.policy_for(client).retry_share;
                retry::within_budget(share, self.recorder.requests_in_flight(), under_way)
            }
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

/// Gives the endpoints their weights. What one was owed beside others, or by other weights, is
/// nothing to go by: a debt of a large weight would keep a small one waiting.
fn weigh(endpoints: &[Rc<EndpointState>], cluster: &Cluster, former: Option<&ClusterState>) {
    let shares = |of: &Cluster| -> Vec<_> {
        let all = of.endpoints.iter();
        all.map(|one| (one.address, one.weight)).collect()
    };
    if former.is_some_and(|former| shares(&former.cluster) == shares(cluster)) {
        return;
    }
    for (state, endpoint) in endpoints.iter().zip(&cluster.endpoints) {
        state.weight.set(endpoint.weight);
        state.credit.set(0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClientPolicy, ClusterId, RetryShare};

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 80).into()
    }

    /// A cluster of endpoints by the last part of their address, with their weights.
    fn cluster(balance: BalancePolicy, endpoints: &[(u8, u32)]) -> Arc<Cluster> {
        let endpoint = |(last, weight): &(u8, u32)| Endpoint {
            address: address(*last),
            pod: None,
            node: None,
            zone: None,
            weight: *weight,
        };
        Arc::new(Cluster {
            balance,
            endpoints: endpoints.iter().map(endpoint).collect(),
            ..Cluster::bare(ClusterId(0))
        })
    }

    fn asking(last: u8) -> Client<'static> {
        Client {
            asked: address(last).ip(),
            namespace: "ns",
        }
    }

    /// How often each of `lasts` is picked in `rounds`.
    fn counts(state: &ClusterState, rounds: usize, lasts: &[u8]) -> Vec<usize> {
        let draw = Draw::new(1);
        let picks = (0..rounds).filter_map(|_| state.pick(&draw, asking(99), &[]));
        let picks: Vec<_> = picks.map(|one| one.address).collect();
        let count = |last: &u8| picks.iter().filter(|one| **one == address(*last)).count();
        lasts.iter().map(count).collect()
    }

    #[test]
    fn a_large_weight_that_is_gone_leaves_no_debts() {
        let traffic = Traffic::new();
        for balance in [BalancePolicy::RoundRobin, BalancePolicy::LeastRequest] {
            let before = cluster(balance, &[(1, 1000), (2, 1), (3, 2)]);
            let before = ClusterState::new(&before, None, &traffic, 0);
            assert_eq!(counts(&before, 1003, &[1, 2, 3]), [1000, 1, 2]);
            counts(&before, 600, &[]);
            for weights in [[(2, 1), (3, 2)], [(2, 2), (3, 4)]] {
                let after = cluster(balance, &weights);
                let after = ClusterState::new(&after, Some(&before), &traffic, 0);
                assert_eq!(counts(&after, 30, &[2, 3]), [10, 20], "{balance:?}");
            }
        }
    }

    #[test]
    fn a_cluster_of_the_same_weights_goes_on_with_its_round() {
        let traffic = Traffic::new();
        let of = cluster(BalancePolicy::RoundRobin, &[(1, 2), (2, 1)]);
        let mut state = ClusterState::new(&of, None, &traffic, 0);
        let mut first = 0;
        for _ in 0..30 {
            state = ClusterState::new(&of, Some(&state), &traffic, 0);
            first += counts(&state, 1, &[1])[0];
        }
        assert_eq!(first, 20);
    }

    #[test]
    fn the_address_that_was_asked_for_is_the_only_one_unless_it_is_none_of_them() {
        let traffic = Traffic::new();
        let draw = Draw::new(1);
        let of = cluster(BalancePolicy::AsAsked, &[(1, 1), (2, 1)]);
        let state = ClusterState::new(&of, None, &traffic, 0);
        let pick = |asked: u8, tried: &[SocketAddr]| {
            let found = state.pick(&draw, asking(asked), tried);
            found.map(|one| one.address)
        };
        for asked in [1, 2, 2, 1, 1] {
            assert_eq!(pick(asked, &[]), Some(address(asked)));
            assert_eq!(pick(asked, &[address(asked)]), None, "no other one will do");
        }
        assert_eq!(pick(7, &[address(1)]), Some(address(2)), "led by a route");
    }

    #[test]
    fn clients_of_a_namespace_with_a_balancer_of_its_own_are_balanced_by_it() {
        let traffic = Traffic::new();
        let draw = Draw::new(1);
        let turns = ClientPolicy {
            balance: BalancePolicy::RoundRobin,
            retry_share: RetryShare::default(),
        };
        let of = Arc::unwrap_or_clone(cluster(BalancePolicy::AsAsked, &[(1, 1), (2, 1)]));
        let of = Arc::new(Cluster {
            own_policies: vec![("shop".into(), turns)],
            ..of
        });
        let state = ClusterState::new(&of, None, &traffic, 0);
        let picks = |namespace: &'static str| {
            let client = Client {
                namespace,
                ..asking(1)
            };
            let picks = (0..4).filter_map(|_| state.pick(&draw, client, &[]));
            let first = picks.filter(|one| one.address == address(1));
            first.count()
        };
        assert_eq!((picks("shop"), picks("ns")), (2, 4));
    }
}
