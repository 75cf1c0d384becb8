//! A map by namespace and name, which can be asked with names of any lifetime.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespace and name, to ask with.
pub(super) type Key<'a> = (&'a str, &'a str);

/// Namespace and name, to keep.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Name {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Name {
    /// Borrowed, to ask with.
    pub(super) fn key(&self) -> Key<'_> {
        (&self.namespace, &self.name)
    }
}

impl From<Key<'_>> for Name {
    fn from((namespace, name): Key<'_>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// Values by namespace and name, in that order.
#[derive(Debug)]
pub(super) struct ByKey<T>(BTreeMap<Arc<str>, BTreeMap<Arc<str>, T>>);

impl<T> Default for ByKey<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> ByKey<T> {
    /// The value of a key.
    pub(super) fn get(&self, key: Key<'_>) -> Option<&T> {
        self.0.get(key.0)?.get(key.1)
    }

    /// The key as it stands in the map, with its value.
    pub(super) fn entry(&self, key: Key<'_>) -> Option<(Name, &T)> {
        let (namespace, names) = self.0.get_key_value(key.0)?;
        let (name, value) = names.get_key_value(key.1)?;
        let name = Name {
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
        };
        Some((name, value))
    }

    /// The value of a key, made if it is not there.
    pub(super) fn or_default(&mut self, name: &Name) -> &mut T
    where
        T: Default,
    {
        let names = self.0.entry(Arc::clone(&name.namespace)).or_default();
        names.entry(Arc::clone(&name.name)).or_default()
    }

    /// Sets the value of a key; returns the former one.
    pub(super) fn insert(&mut self, name: &Name, value: T) -> Option<T> {
        let names = self.0.entry(Arc::clone(&name.namespace)).or_default();
        names.insert(Arc::clone(&name.name), value)
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: Key<'_>) -> Option<T> {
        let names = self.0.get_mut(key.0)?;
        let value = names.remove(key.1);
        if names.is_empty() {
            self.0.remove(key.0);
        }
        value
    }

    /// Every key with its value, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key<'_>, &T)> {
        self.0.iter().flat_map(|(namespace, names)| {
            names
                .iter()
                .map(move |(name, value)| ((&**namespace, &**name), value))
        })
    }

    /// Every value, in the order of the keys.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.values().flat_map(BTreeMap::values)
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Every name and value of a namespace, in order.
    pub(super) fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = (&Arc<str>, &T)> {
        self.0.get(namespace).into_iter().flatten()
    }
}
