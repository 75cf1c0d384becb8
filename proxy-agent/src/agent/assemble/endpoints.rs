//! Endpoints for `status`: what the workers have made of each, and what direct connections have.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use proxy_ebpf::EndpointState;

use super::{Parts, millis};
use crate::model::{Cluster, Endpoint, Snapshot};
use crate::status::EndpointStatus;

impl Parts {
    /// The endpoints of every cluster.
    pub(super) fn endpoints(&self, snapshot: &Snapshot) -> Vec<EndpointStatus> {
        let direct = self.kernel.endpoints().unwrap_or_else(|error| {
            tracing::error!(%error, "direct connections cannot be read");
            HashMap::new()
        });
        let (ejected, now) = (self.ejections.all(), Instant::now());
        let clusters = snapshot.clusters.iter();
        let of_cluster = |cluster: &Arc<Cluster>| {
            let status = |endpoint: &Endpoint| {
                let until = ejected.get(&(cluster.id, endpoint.address));
                let left = until.map_or(0, |until| millis(until.saturating_duration_since(now)));
                EndpointStatus {
                    ejected_ms: left,
                    ..self.endpoint(cluster, endpoint, &direct)
                }
            };
            cluster.endpoints.iter().map(status).collect::<Vec<_>>()
        };
        clusters.flat_map(of_cluster).collect()
    }

    fn endpoint(
        &self,
        cluster: &Cluster,
        endpoint: &Endpoint,
        direct: &HashMap<SocketAddr, EndpointState>,
    ) -> EndpointStatus {
        let totals = self.traffic.endpoint(&cluster.name, endpoint.address);
        let direct = direct.get(&endpoint.address).copied().unwrap_or_default();
        let or_empty = |text: &Option<Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
        EndpointStatus {
            cluster: cluster.name.to_string(),
            address: endpoint.address.to_string(),
            pod: or_empty(&endpoint.pod),
            node: or_empty(&endpoint.node),
            requests_total: totals.sent_total,
            connect_failures_total: totals.connect_failures_total,
            in_flight: totals.sent_total.saturating_sub(totals.ended_total),
            direct_open: direct.open,
            direct_total: direct.connected,
            direct_failures_total: direct.refused + direct.unreachable,
            direct_connect_us: direct.connect_ns.checked_div(direct.connected).unwrap_or(0) / 1_000,
            ejected_ms: 0,
        }
    }
}
