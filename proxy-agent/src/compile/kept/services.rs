//! Services: addresses, ports, clusters.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Service};

use super::Kept;
use crate::compile::address::Allocator;
use crate::compile::by_key::Name;
use crate::compile::cluster_ids::ClusterIds;
use crate::compile::dirty::Dirty;
use crate::compile::endpoints::Found;
use crate::compile::index::At;
use crate::compile::nearby::Here;
use crate::compile::problems::{Part, Problems};
use crate::compile::service::{self, Addresses, Declared, Port, PortSubset};
use crate::compile::{annotations, endpoints, istio, smi, switches};
use crate::model::{Cluster, Endpoint, UpstreamProtocol};
use crate::objects::istio::{DestinationRule, ServiceEntry};
use crate::objects::smi::HttpRouteGroup;

impl Kept {
    /// Reads Services anew. Names of clusters that are gone for it go to `free`.
    pub(in crate::compile) fn services(
        &mut self,
        dirty: &mut Dirty,
        allocator: &mut Allocator,
        ids: &mut ClusterIds,
        free: &mut BTreeSet<Arc<str>>,
    ) {
        let mut moved = false;
        for name in &dirty.services {
            moved |= self.read_addresses(name);
        }
        // Where no Service is left, none tells that its address went.
        if moved || self.addresses.len() == 0 {
            dirty.services.extend(self.give_addresses(allocator));
        }
        for name in &dirty.services {
            let former = self.ports.get(name.key()).into_iter().flatten();
            free.extend(former.flat_map(names_of_clusters));
        }
        for name in &dirty.services.clone() {
            dirty.endpoints.insert(name.clone());
            let ports = self.read_ports(name, ids);
            for cluster in ports.iter().flatten().flat_map(names_of_clusters) {
                free.remove(&cluster);
            }
            if self.ports.get(name.key()) == ports.as_ref() {
                continue;
            }
            match ports {
                Some(ports) => self.ports.insert(name, ports),
                None => self.ports.remove(name.key()),
            };
            dirty.note_ports(name, self);
        }
    }

    /// Returns whether the addresses are others than before.
    fn read_addresses(&mut self, name: &Name) -> bool {
        let mut problems = Problems::default();
        let at = self.index.get::<Service>(name.key());
        let present = at.map(|at| Addresses::read(&at, &mut problems));
        let entry = || {
            let at = self.index.entry(name.key())?;
            let own = istio::addresses(&at, &name.name, &self.index);
            Some(Addresses {
                own,
                ..Addresses::default()
            })
        };
        let present = present.or_else(entry);
        self.found.set(Part::Addresses, name, problems);
        if self.addresses.get(name.key()) == present.as_ref() {
            return false;
        }
        match present {
            Some(present) => self.addresses.insert(name, present),
            None => self.addresses.remove(name.key()),
        };
        true
    }

    /// Gives addresses to the Services that have none. Returns those whose address is another
    /// than before.
    fn give_addresses(&mut self, allocator: &mut Allocator) -> Vec<Name> {
        let lacking = self.addresses.iter().filter(|(_, found)| found.lacking);
        let lacking: Vec<Name> = lacking.map(|(key, _)| key.into()).collect();
        if lacking.is_empty() && allocator.is_empty() {
            return Vec::new();
        }
        let all = self.addresses.values();
        let taken: HashSet<IpAddr> = all
            .flat_map(|found| found.own.iter().chain(&found.passed))
            .copied()
            .collect();
        let texts: Vec<_> = lacking.iter().map(text).collect();
        let given = allocator.allocate(self.options.service_cidr, &texts, &taken);
        let moved = |(_, text): &(Name, String)| given.get(text) != self.given.get(text);
        let moved = lacking.into_iter().zip(texts).filter(moved);
        let moved = moved.map(|(name, _)| name).collect();
        self.given = given;
        moved
    }

    fn read_ports(&mut self, name: &Name, ids: &mut ClusterIds) -> Option<Vec<Port>> {
        let mut problems = Problems::default();
        let at = self.index.get::<Service>(name.key());
        let addresses = self.addresses.get(name.key());
        let ports = at.zip(addresses).map(|(at, addresses)| {
            switches::name_what_is_without_effect(at.located, &mut problems);
            let given = self.given.get(&text(name)).filter(|_| addresses.lacking);
            if given.is_none() && addresses.lacking {
                let cidr = self.options.service_cidr;
                let reason =
                    format!("no clusterIP, and no address is left in {cidr} (--service-cidr)");
                problems.error(at.located, "spec.clusterIP", reason);
            }
            let given = given.copied();
            let mut ports = service::ports(&at, addresses, given, ids, &mut problems);
            istio::apply(&self.index.rules(name.key()), &mut ports, ids);
            let namespace = self.index.get::<Namespace>(("", &name.namespace));
            annotations::apply(&at, namespace.as_ref(), &mut ports, &mut problems);
            ports
        });
        let ports = ports.or_else(|| {
            let at = self.index.entry(name.key())?;
            let own = addresses.map_or(&[][..], |addresses| &addresses.own);
            let mut ports = istio::ports(&at, name, own, ids);
            istio::apply(&self.index.rules(name.key()), &mut ports, ids);
            Some(ports)
        });
        self.found.set(Part::Service, name, problems);
        ports
    }

    /// Judges ServiceEntries anew.
    pub(in crate::compile) fn entries(&mut self, dirty: &Dirty) {
        for name in &dirty.entries {
            let mut problems = Problems::default();
            if let Some(at) = self.index.get::<ServiceEntry>(name.key()) {
                let owner = |host: &str| {
                    let owner = self.index.entry((&name.namespace, host))?;
                    let other = owner.located.id != at.located.id;
                    other.then(|| owner.located.id.clone())
                };
                switches::name_what_is_without_effect(at.located, &mut problems);
                istio::judge_entry(&at, owner, &mut problems);
            }
            self.found.set(Part::ServiceEntry, name, problems);
        }
    }

    /// Judges DestinationRules anew.
    pub(in crate::compile) fn rules(&mut self, dirty: &Dirty) {
        for name in &dirty.rules {
            let mut problems = Problems::default();
            if let Some(at) = self.index.get::<DestinationRule>(name.key()) {
                let services = istio::services_of(&at);
                let ports = match istio::wildcard_of(&at) {
                    Some(suffix) => {
                        let all = self.ports.iter();
                        let all = all.filter(|(key, _)| istio::ends_with(*key, &suffix));
                        all.map(|(_, ports)| ports.as_slice()).collect()
                    }
                    None => Vec::from_iter(services.iter().find_map(|one| self.ports_of(one))),
                };
                let others = services.iter().flat_map(|one| {
                    let all = self.index.rules(one.key()).into_iter();
                    let older = all.take_while(|one| one.located.id != at.located.id);
                    older.filter(|one| istio::goes_before(one, &at))
                });
                let others: Vec<_> = others.collect();
                switches::name_what_is_without_effect(at.located, &mut problems);
                istio::judge(&at, &ports, &others, &mut problems);
            }
            self.found.set(Part::DestinationRule, name, problems);
        }
    }

    /// The ports of a Service, or of a ServiceEntry's host, which a rule names without a namespace.
    fn ports_of(&self, service: &Name) -> Option<&[Port]> {
        let known = |name: &Name| self.ports.get(name.key()).map(Vec::as_slice);
        let mut of_host = self.index.of_host(&service.name);
        let is_host = service.namespace.is_empty();
        known(service).or_else(|| is_host.then(|| of_host.find_map(known))?)
    }

    /// Judges HTTPRouteGroups anew.
    pub(in crate::compile) fn groups(&mut self, dirty: &Dirty) {
        for name in &dirty.groups {
            let mut problems = Problems::default();
            if let Some(at) = self.index.get::<HttpRouteGroup>(name.key()) {
                smi::judge(&at, &mut problems);
            }
            self.found.set(Part::RouteGroup, name, problems);
        }
    }

    /// Finds the endpoints of Services anew.
    pub(in crate::compile) fn endpoints(&mut self, dirty: &Dirty) {
        for name in &dirty.endpoints {
            let here = Here::on(self.options.node_name.as_deref(), &self.index);
            let mut problems = Problems::default();
            let at = self.index.get::<Service>(name.key());
            let ports = self.ports.get(name.key());
            let clusters = match (at, ports) {
                (Some(at), Some(ports)) => self.of_service(&at, ports, here, &mut problems),
                (None, Some(ports)) => self.of_entry(name, ports),
                (_, None) => Vec::new(),
            };
            let proxied = ports
                .into_iter()
                .flatten()
                .filter(|port| port.pass.is_none());
            let proxied: Vec<_> = proxied.map(|port| port.id).collect();
            self.found.set(Part::Endpoints, name, problems);
            let former = self.clusters.remove(name.key()).unwrap_or_default();
            let present = self.replace_clusters(&former, clusters);
            let unserved = present
                .iter()
                .filter(|one| one.endpoints.is_empty() && proxied.contains(&one.id))
                .map(|one| Arc::clone(&one.name))
                .collect();
            self.replace_unserved(&former, unserved);
            if !present.is_empty() {
                self.clusters.insert(name, present);
            }
        }
    }

    /// The clusters of a Service.
    fn of_service(
        &self,
        at: &At<'_, Service>,
        ports: &[Port],
        here: Here<'_>,
        problems: &mut Problems,
    ) -> Vec<Arc<Cluster>> {
        let of_port = |port: &Port| {
            let found = endpoints::of_port(&self.index, here, at, port, problems);
            clusters(port, found, |whole, subset| {
                endpoints::of_subset(whole, subset, &port.service, &self.index)
            })
        };
        ports.iter().flat_map(of_port).collect()
    }

    /// The clusters of a host of a ServiceEntry.
    fn of_entry(&self, service: &Name, ports: &[Port]) -> Vec<Arc<Cluster>> {
        let Some(at) = self.index.entry(service.key()) else {
            return Vec::new();
        };
        let of_port = |port: &Port| {
            let labelled = istio::endpoints(&at, port, &self.index);
            let whole = Found {
                usable: endpoints::sorted(labelled.iter().map(|(one, _)| one.clone())),
                left_out: Vec::new(),
            };
            clusters(port, whole, |_, subset| {
                endpoints::carrying(&labelled, &subset.labels)
            })
        };
        ports.iter().flat_map(of_port).collect()
    }

    /// Takes the names of `former` clusters out of those without endpoints, and `present` in.
    fn replace_unserved(&mut self, former: &[Arc<Cluster>], present: BTreeSet<Arc<str>>) {
        let names = former.iter().map(|cluster| &cluster.name);
        let before: BTreeSet<_> = names.filter_map(|name| self.unserved.take(name)).collect();
        if before != present {
            self.shared.forget_unserved();
        }
        self.unserved.extend(present);
    }

    /// Puts clusters in their slots in place of `former` ones; those that are equal stay the same
    /// in memory, so that workers keep their state without a look.
    pub(super) fn replace_clusters(
        &mut self,
        former: &[Arc<Cluster>],
        mut present: Vec<Arc<Cluster>>,
    ) -> Vec<Arc<Cluster>> {
        let mut changed = false;
        for cluster in &mut present {
            match former.iter().find(|one| *one == cluster) {
                Some(same) => *cluster = Arc::clone(same),
                None => changed = true,
            }
        }
        if !changed && former.len() == present.len() {
            return present;
        }
        for cluster in former {
            self.slots[cluster.id.index()] = None;
            self.shared.forget_cluster(cluster.id);
        }
        for cluster in &present {
            let slot = cluster.id.index();
            if self.slots.len() <= slot {
                self.slots.resize(slot + 1, None);
            }
            self.slots[slot] = Some(Arc::clone(cluster));
            self.shared.forget_cluster(cluster.id);
        }
        present
    }
}

fn text(name: &Name) -> String {
    format!("{}/{}", name.namespace, name.name)
}

/// Names of the clusters of a port: its own and those of its subsets.
fn names_of_clusters(port: &Port) -> impl Iterator<Item = Arc<str>> {
    let subsets = port.subsets.iter().map(|subset| &subset.cluster);
    subsets.chain([&port.cluster]).cloned()
}

/// The clusters of a port.
fn clusters(
    port: &Port,
    found: Found,
    part: impl Fn(&[Endpoint], &PortSubset) -> Vec<Endpoint>,
) -> Vec<Arc<Cluster>> {
    let whole = cluster(port, found);
    let subsets = port.subsets.iter().map(|subset| Cluster {
        id: subset.id,
        name: Arc::clone(&subset.cluster),
        balance: subset.balance,
        retry_share: subset.retry_share,
        own_policies: Vec::new(),
        policies: subset.policies.clone(),
        endpoints: part(&whole.endpoints, subset),
        left_out: Vec::new(),
        ..whole.clone()
    });
    let mut all: Vec<_> = subsets.map(Arc::new).collect();
    all.push(Arc::new(whole));
    all
}

fn cluster(port: &Port, found: Found) -> Cluster {
    Cluster {
        id: port.id,
        name: Arc::clone(&port.cluster),
        namespace: Arc::clone(&port.service.namespace),
        service: Arc::clone(&port.service.name),
        port: port.number,
        balance: port.balance,
        retry_share: port.retry_share,
        own_policies: port.own_policies.clone(),
        policies: port.policies.clone(),
        upstream: match port.declared {
            Declared::Http(upstream) => upstream,
            Declared::Opaque | Declared::Tls | Declared::Nothing => UpstreamProtocol::AsReceived,
        },
        direct: port.direct,
        failure_accrual: port.failure_accrual,
        endpoints: found.usable,
        left_out: found.left_out,
    }
}
