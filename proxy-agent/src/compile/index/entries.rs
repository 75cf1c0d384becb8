//! ServiceEntries by the services that they stand for, and by the names that these need resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{At, Change, Index, created};
use crate::compile::by_key::{ByKey, Key, Name};
use crate::compile::istio;
use crate::objects::Resolution;
use crate::objects::istio::ServiceEntry;

/// What leads to ServiceEntries.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Names of entries by the service that they stand for.
    by_service: ByKey<BTreeSet<Name>>,
    /// Services by host.
    by_host: BTreeMap<Arc<str>, BTreeSet<Name>>,
    /// Services, each with its entry, by the names that they need resolved.
    by_lookup: BTreeMap<Arc<str>, BTreeSet<(Name, Name)>>,
}

impl Index {
    /// The entry that stands for a service: of several the oldest.
    pub(in crate::compile) fn entry(&self, service: Key<'_>) -> Option<At<'_, ServiceEntry>> {
        let names = self.entries.by_service.get(service)?.iter();
        let entries = names.filter_map(|name| self.get::<ServiceEntry>(name.key()));
        entries.min_by_key(|at| (created(at.located), at.located.id.clone()))
    }

    /// Names of every entry that stands for a service.
    pub(in crate::compile) fn entries(&self, service: Key<'_>) -> impl Iterator<Item = &Name> {
        self.entries.by_service.get(service).into_iter().flatten()
    }

    /// The services of a host that entries stand for.
    pub(in crate::compile) fn of_host(&self, host: &str) -> impl Iterator<Item = &Name> {
        self.entries.by_host.get(host).into_iter().flatten()
    }

    /// Every service that entries stand for.
    pub(super) fn external(&self) -> impl Iterator<Item = &Name> {
        self.entries.by_host.values().flatten()
    }

    /// The services that need a name resolved.
    pub(in crate::compile) fn needing(&self, name: &str) -> impl Iterator<Item = &Name> {
        let pairs = self.entries.by_lookup.get(name).into_iter().flatten();
        pairs.map(|(service, _entry)| service)
    }

    /// Names that are to be resolved, in order.
    pub(in crate::compile) fn lookups(&self) -> Arc<[Arc<str>]> {
        self.entries.by_lookup.keys().cloned().collect()
    }

    /// What a name resolves to; nothing while that is not known.
    pub(in crate::compile) fn resolved(&self, name: &str) -> &[IpAddr] {
        let found = self.get::<Resolution>(("", name));
        found.map_or(&[], |at| &at.object.addresses)
    }

    /// Keeps what leads to entries in line with a change.
    pub(super) fn relate_entries(&mut self, change: &Change) {
        let held = [(&change.former, false), (&change.present, true)];
        let held = held.into_iter().filter_map(|(held, there)| {
            let held = held.as_ref()?;
            Some((held, held.at::<ServiceEntry>()?, there))
        });
        for (held, at, there) in held {
            for service in istio::services_of_entry(&at) {
                for lookup in istio::lookups(&at, &service.name) {
                    let pairs = self.entries.by_lookup.entry(lookup).or_default();
                    set(pairs, (service.clone(), held.name()), there);
                }
                let entries = self.entries.by_service.or_default(&service);
                set(entries, held.name(), there);
                let any = !entries.is_empty();
                if !any {
                    self.entries.by_service.remove(service.key());
                }
                let host = Arc::clone(&service.name);
                let services = self.entries.by_host.entry(host).or_default();
                set(services, service, any);
            }
            self.entries
                .by_host
                .retain(|_, services| !services.is_empty());
            self.entries.by_lookup.retain(|_, pairs| !pairs.is_empty());
        }
    }
}

fn set<T: Ord>(all: &mut BTreeSet<T>, one: T, there: bool) {
    if there {
        all.insert(one);
    } else {
        all.remove(&one);
    }
}
