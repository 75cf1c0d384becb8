//! DestinationRules by the Service that they are for.

use std::sync::Arc;

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
    pub(in crate::compile) fn rules_of(&self, service: Key<'_>) -> impl Iterator<Item = &Name> {
        let own = self.rules.get(service);
        // Hosts of ServiceEntries have no namespace in a rule's eyes.
        let host = service.1.contains('.').then_some(service.1);
        let of_host = host.and_then(|host| self.rules.get(("", host)));
        own.into_iter().chain(of_host).flatten()
    }

    /// Names of the Services of a namespace that a DestinationRule is for.
    pub(in crate::compile) fn ruled<'s>(
        &'s self,
        namespace: &'s Arc<str>,
    ) -> impl Iterator<Item = Name> + use<'s> {
        let services = self.rules.of_namespace(namespace);
        services.map(|(name, _)| Name {
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
        })
    }

    /// Keeps what leads from Services to their rules in line with a change.
    pub(super) fn relate_rules(&mut self, change: &Change) {
        for (held, there) in [(&change.former, false), (&change.present, true)] {
            if let Some(held) = held
                && let Some(at) = held.at()
            {
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
    }
}
