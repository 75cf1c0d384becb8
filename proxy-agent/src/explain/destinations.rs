//! Where a share of the requests goes, and to which endpoints it can and cannot.

use std::sync::Arc;

use crate::model::{Cluster, Destination, Endpoint, LeftOut, Snapshot, WeightedDestination};
use crate::status::{ExplainedCluster, ExplainedEndpoint};

/// The destinations of a rule with their shares and endpoints, for clients of a namespace.
pub(super) fn clusters(
    snapshot: &Snapshot,
    destinations: &[WeightedDestination],
    client: &str,
) -> Vec<ExplainedCluster> {
    let total: f64 = destinations.iter().map(|one| f64::from(one.weight)).sum();
    let explained = destinations.iter().map(|one| {
        let mut explained = ExplainedCluster {
            weight: one.weight,
            share_percent: 100.0 * f64::from(one.weight) / total.max(1.0),
            ..ExplainedCluster::default()
        };
        match one.destination {
            Destination::Redirect(_) => "redirect".clone_into(&mut explained.name),
            Destination::Invalid => {
                "invalid reference: answers 500 (invalid_backend)".clone_into(&mut explained.name);
            }
            Destination::Cluster(id) => {
                if let Some(cluster) = snapshot.cluster(id) {
                    explained.name = cluster.name.to_string();
                    cluster
                        .policy_for(client)
                        .balance
                        .name()
                        .clone_into(&mut explained.balance);
                    explained.endpoints = endpoints(snapshot, cluster);
                }
            }
        }
        explained
    });
    explained.collect()
}

/// The endpoints of a cluster, and what its Service has beside them.
fn endpoints(snapshot: &Snapshot, cluster: &Cluster) -> Vec<ExplainedEndpoint> {
    let mut explained: Vec<_> = cluster.endpoints.iter().map(usable).collect();
    let mut left_out = cluster.left_out.as_slice();
    // What a subset lacks is told by the cluster that it is a part of.
    if let Some((whole, _)) = cluster.name.split_once('|')
        && let Some(whole) = named(snapshot, whole)
    {
        let others = whole.endpoints.iter();
        let others = others.filter(|one| !cluster.endpoints.contains(one));
        explained.extend(others.map(|one| ExplainedEndpoint {
            usable: false,
            reason: "its pod does not carry the subset's labels".to_owned(),
            ..usable(one)
        }));
        left_out = &whole.left_out;
    }
    explained.extend(left_out.iter().map(unusable));
    explained
}

fn named<'s>(snapshot: &'s Snapshot, name: &str) -> Option<&'s Arc<Cluster>> {
    let mut clusters = snapshot.clusters.iter();
    clusters.find(|one| *one.name == *name)
}

fn usable(endpoint: &Endpoint) -> ExplainedEndpoint {
    let or_empty = |text: &Option<Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    ExplainedEndpoint {
        address: endpoint.address.to_string(),
        pod: or_empty(&endpoint.pod),
        node: or_empty(&endpoint.node),
        zone: or_empty(&endpoint.zone),
        weight: endpoint.weight,
        usable: true,
        ..ExplainedEndpoint::default()
    }
}

fn unusable(left_out: &LeftOut) -> ExplainedEndpoint {
    let address = left_out.address.map(|address| address.to_string());
    ExplainedEndpoint {
        address: address.unwrap_or_default(),
        pod: left_out.pod.as_deref().unwrap_or_default().to_owned(),
        reason: left_out.why.name().to_owned(),
        ..ExplainedEndpoint::default()
    }
}
