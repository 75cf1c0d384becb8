//! Names by a label that they carry, or select by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::by_key::Name;

/// Names in a namespace by label and value.
#[derive(Debug, Default)]
pub(super) struct Labelled(HashMap<Arc<str>, HashMap<String, BTreeSet<Arc<str>>>>);

impl Labelled {
    /// Files a name under each of its labels.
    pub(super) fn add(&mut self, name: &Name, labels: Option<&BTreeMap<String, String>>) {
        for (label, value) in labels.into_iter().flatten() {
            let here = self.0.entry(Arc::clone(&name.namespace)).or_default();
            let names = here.entry(pair(label, value)).or_default();
            names.insert(Arc::clone(&name.name));
        }
    }

    /// Undoes [`Self::add`] with the same labels.
    pub(super) fn remove(&mut self, name: &Name, labels: Option<&BTreeMap<String, String>>) {
        let Some(here) = self.0.get_mut(&name.namespace) else {
            return;
        };
        for (label, value) in labels.into_iter().flatten() {
            let pair = pair(label, value);
            if let Some(names) = here.get_mut(&pair) {
                names.remove(&name.name);
                if names.is_empty() {
                    here.remove(&pair);
                }
            }
        }
        if here.is_empty() {
            self.0.remove(&name.namespace);
        }
    }

    /// The names of a namespace under a label, in order.
    pub(super) fn get(
        &self,
        namespace: &str,
        label: &str,
        value: &str,
    ) -> Option<&BTreeSet<Arc<str>>> {
        self.0.get(namespace)?.get(&pair(label, value))
    }
}

fn pair(label: &str, value: &str) -> String {
    format!("{label}={value}") // neither labels nor values hold a `=`
}
