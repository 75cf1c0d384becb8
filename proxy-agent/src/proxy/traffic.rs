//! One request's entry in the counters, from its head to the end of its response.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;

use crate::model::Policies;

use super::load::{ClusterState, OpenOnEndpoint};

/// A request that counts as in flight on its cluster, and on its endpoint once there is one.
pub(super) struct Ticket {
    cluster: Rc<ClusterState>,
    endpoint: Option<OpenOnEndpoint>,
}

impl Ticket {
    /// Counts a request towards `cluster`.
    pub(super) fn new(cluster: &Rc<ClusterState>) -> Self {
        cluster.recorder.request_started();
        Self {
            cluster: Rc::clone(cluster),
            endpoint: None,
        }
    }

    /// Counts it towards an endpoint, and no longer towards the one that was tried before.
    pub(super) fn on_endpoint(&mut self, open: OpenOnEndpoint) {
        self.endpoint = Some(open);
    }

    /// Address of the endpoint that it counts towards.
    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint.as_ref().map(OpenOnEndpoint::address)
    }

    /// Records the upstream's answer, which counts as a failure if the rule says so.
    pub(super) fn classified(
        &self,
        status: StatusCode,
        policies: Option<&Policies>,
        to_head: Duration,
    ) {
        if let Some(policies) = policies.filter(|of| of.failures.is_some()) {
            let failed = policies.is_failure(status.as_u16());
            self.cluster.recorder.classified(status.as_u16(), failed);
        }
        self.answered(status, to_head);
    }

    /// Records the answer.
    pub(super) fn answered(&self, status: StatusCode, to_head: Duration) {
        self.cluster
            .recorder
            .request_ended(status.as_u16(), to_head);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cluster.recorder.in_flight_ended();
    }
}
