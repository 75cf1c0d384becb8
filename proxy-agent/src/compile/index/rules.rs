//! DestinationRules by the Service that they are for.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

use super::{At, Change, Index, created};
use crate::compile::by_key::{Key, Name};
use crate::compile::istio;
use crate::objects::istio::DestinationRule;

impl Index {
    /// The DestinationRules of a Service, the oldest first.
    pub(in crate::compile) fn rules(&self, service: Key<'_>) -> Vec<At<'_, DestinationRule>> {
        let names = self.rules_of(service);
        let mut rules: Vec<_> = names.filter_map(|name| self.get(name.key())).collect();
        rules.sort_by_cached_key(|at: &At<'_, DestinationRule>| {
            (created(at.located), at.located.id.clone())
        });
        rules
    }

    /// Names of the DestinationRules of a Service.
    pub(in crate::compile) fn rules_of<'s>(
        &'s self,
        service: Key<'s>,
    ) -> impl Iterator<Item = &'s Name> {
        let own = self.rules.get(service);
        // Hosts of ServiceEntries have no namespace in a rule's eyes.
        let host = service.1.contains('.').then_some(service.1);
        let of_host = host.and_then(|host| self.rules.get(("", host)));
        let wild = self.wildcards.iter();
        let wild = wild.filter(move |(suffix, _)| istio::ends_with(service, suffix));
        let wild = wild.flat_map(|(_, rules)| rules);
        own.into_iter().chain(of_host).flatten().chain(wild)
    }

    /// Every Service and every host of a ServiceEntry that a rule with a wildcard may be for.
    pub(in crate::compile) fn that_end(&self, suffix: &str) -> impl Iterator<Item = Name> {
        let services = self.all::<Service>().map(|at| Name::from(at.key()));
        let services = services.chain(self.external().cloned());
        services.filter(move |name| istio::ends_with(name.key(), suffix))
    }

    /// Names of the Services of a namespace that a DestinationRule is for.
    pub(in crate::compile) fn ruled<'s>(
        &'s self,
        namespace: &'s Arc<str>,
    ) -> impl Iterator<Item = Name> + use<'s> {
        let services = self.rules.of_namespace(namespace);
        let named = services.map(|(name, _)| Name {
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
        });
        // Without wildcards, pods that come and go cost nothing for Services that no rule names.
        let wildcards = &self.wildcards;
        let some = !wildcards.is_empty();
        let here = self.of_namespace::<Service>(namespace);
        let here = here.take_while(move |_| some);
        let entries = self.external().take_while(move |_| some);
        let entries = entries.filter(move |name| name.namespace == *namespace);
        let here = here.map(|at| Name::from(at.key())).chain(entries.cloned());
        named.chain(here.filter(move |name| {
            let mut suffixes = wildcards.keys();
            suffixes.any(|suffix| istio::ends_with(name.key(), suffix))
        }))
    }

    /// Keeps what leads from Services to their rules in line with a change.
    pub(super) fn relate_rules(&mut self, change: &Change) {
        for (held, there) in [(&change.former, false), (&change.present, true)] {
            if let Some(held) = held
                && let Some(at) = held.at()
            {
                if let Some(suffix) = istio::wildcard_of(&at) {
                    let rules = self.wildcards.entry(suffix).or_default();
                    if there {
                        rules.insert(held.name());
                    } else {
                        rules.remove(&held.name());
                    }
                }
                for service in istio::services_of(&at) {
                    let rules = self.rules.or_default(&service);
                    if there {
                        rules.insert(held.name());
                    } else {
                        rules.remove(&held.name());
                    }
                    if rules.is_empty() {
                        self.rules.remove(service.key());
                    }
                }
            }
        }
        self.wildcards.retain(|_, rules| !rules.is_empty());
    }
}
