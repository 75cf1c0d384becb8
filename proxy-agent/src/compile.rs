//! Objects of all sources → one [`Snapshot`].
//!
//! Pure: reads no file and no clock but for the snapshot's own time stamp. A bad object, or a bad
//! part of one, is named with its field path among the problems and never harms another.

mod address;
mod attach;
mod by_key;
mod cluster_ids;
mod duration;
mod endpoints;
mod gateway_api;
mod index;
mod istio;
mod linkerd;
mod pod;
mod problems;
mod service;
mod switches;
mod tables;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use self::address::Allocator;
use self::cluster_ids::ClusterIds;
use self::gateway_api::Scope;
use self::index::Index;
use self::problems::Problems;
use self::service::{Declared, Port, Ports};
use self::tables::NamedByLinkerd;
use crate::model::{Cluster, Listener, ListenerVerdict, Problem, Snapshot, UpstreamProtocol};
use crate::objects::ObjectSet;

pub use self::address::{CidrError, ServiceCidr};

/// What compilation goes by, beside the objects.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Range for Services from files that have no clusterIP.
    pub service_cidr: ServiceCidr,
    /// Captures every pod that does not say otherwise.
    pub capture_all: bool,
    /// The agent's own namespace, which `capture_all` leaves out.
    pub agent_namespace: Option<String>,
    /// Pods of other nodes are not captured here.
    pub node_name: Option<String>,
}

/// Compiles snapshots, and keeps what must stay the same from one to the next.
#[derive(Debug, Default)]
pub struct Compiler {
    ids: ClusterIds,
    allocator: Allocator,
    version: u64,
}

impl Compiler {
    /// Compiles everything that the sources hold. Of an object in two sets the first set's counts.
    pub fn compile(&mut self, sets: &[Arc<ObjectSet>], options: &Options) -> Snapshot {
        let mut problems = Problems(of_sources(sets));
        let index = Index::new(sets, &mut problems);
        let ports = service::ports(
            &index,
            options.service_cidr,
            &mut self.allocator,
            &mut problems,
        );
        let mut clusters: Vec<Cluster> = ports
            .iter()
            .flat_map(|(_, ports)| ports)
            .map(|port| self.cluster(&index, port, &mut problems))
            .collect();
        let mut scope = Scope {
            ports: &ports,
            grants: &index.grants,
            ids: &mut self.ids,
            problems: &mut problems,
        };
        let (mut attachments, route_parents) = gateway_api::compile(&index, &mut scope);
        let (of_istio, rules) = istio::compile(&index, &mut scope);
        attachments.extend(of_istio);
        let linkerd = linkerd::compile(&index, &mut scope);
        rules.apply(&index, &mut clusters);
        clusters.extend(linkerd.clusters);
        let grouped = tables::by_service(&attachments);
        tables::name_what_is_without_effect(&grouped, &ports, &mut problems);
        let listeners: Vec<Arc<Listener>> = ports
            .iter()
            .flat_map(|(key, ports)| ports.iter().map(move |port| (key, port)))
            .flat_map(|(key, port)| {
                let attached = grouped.get(key).map(Vec::as_slice).unwrap_or_default();
                let named = if linkerd.http_ports.contains(&(key, port.number)) {
                    NamedByLinkerd::Yes
                } else {
                    NamedByLinkerd::No
                };
                tables::listeners(port, attached, named, &mut self.ids)
            })
            .map(Arc::new)
            .collect();
        let pods = pod::compile(&index, options, &mut problems);
        switches::name_what_is_without_effect(&index, &mut problems);
        let by_address = by_address(&listeners, &ports, &mut problems);
        self.version += 1;
        Snapshot {
            version: self.version,
            created: SystemTime::now(),
            listeners,
            by_address,
            clusters: self.by_id(clusters),
            virtual_hosts: linkerd.virtual_hosts,
            pod_labels: pod::labels(&index, &pods),
            pods,
            objects: index.objects,
            unknown_kinds: index.unknown,
            route_parents,
            problems: problems.0,
        }
    }

    fn cluster(&mut self, index: &Index<'_>, port: &Port<'_>, problems: &mut Problems) -> Cluster {
        let (namespace, service) = port.at.key();
        Cluster {
            id: self.ids.id(&port.cluster),
            name: Arc::clone(&port.cluster),
            namespace: namespace.into(),
            service: service.into(),
            port: port.number,
            balance: port.balance,
            upstream: match port.declared {
                Declared::Http(upstream) => upstream,
                Declared::Opaque | Declared::Nothing => UpstreamProtocol::AsReceived,
            },
            endpoints: endpoints::of_port(index, port, problems),
        }
    }

    /// Clusters at their ids; ids of clusters that are gone are freed.
    fn by_id(&mut self, clusters: Vec<Cluster>) -> Vec<Option<Arc<Cluster>>> {
        let names: HashSet<&Arc<str>> = clusters.iter().map(|cluster| &cluster.name).collect();
        self.ids.retain(&names);
        let length = clusters.iter().map(|cluster| cluster.id.index() + 1).max();
        let mut slots = vec![None; length.unwrap_or(0)];
        for cluster in clusters {
            let slot = cluster.id.index();
            slots[slot] = Some(Arc::new(cluster));
        }
        slots
    }
}

/// What the sources found wrong themselves.
fn of_sources(sets: &[Arc<ObjectSet>]) -> Vec<Problem> {
    let found = sets.iter().flat_map(|set| set.problems.iter().cloned());
    let troubles = sets.iter().filter_map(|set| set.trouble_as_problem());
    found.chain(troubles).collect()
}

/// Proxied addresses. Of two Services with one address the first by namespace and name has it.
fn by_address(
    listeners: &[Arc<Listener>],
    ports: &Ports<'_>,
    problems: &mut Problems,
) -> HashMap<SocketAddr, Arc<Listener>> {
    let mut owners: HashMap<SocketAddr, Arc<Listener>> = HashMap::new();
    let proxied = |one: &&Arc<Listener>| matches!(one.verdict, ListenerVerdict::Proxy(_));
    for listener in listeners.iter().filter(proxied) {
        for address in &listener.addresses {
            let Some(owner) = owners.get(address) else {
                owners.insert(*address, Arc::clone(listener));
                continue;
            };
            let key = (&*listener.namespace, &*listener.service);
            if let Some(port) = ports.get(key).and_then(|ports| ports.first()) {
                let owner = format!("{}/{}", owner.namespace, owner.service);
                let reason =
                    format!("address {address} is Service {owner}'s already, which keeps it");
                problems.error(port.at.located, "spec", reason);
            }
        }
    }
    owners
}
