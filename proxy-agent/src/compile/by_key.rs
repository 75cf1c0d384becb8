//! A map by namespace and name, which can be asked with names of any lifetime.

use std::collections::BTreeMap;

/// Namespace and name.
pub(super) type Key<'a> = (&'a str, &'a str);

/// Values by namespace and name, in that order.
#[derive(Debug)]
pub(super) struct ByKey<'a, T>(BTreeMap<&'a str, BTreeMap<&'a str, T>>);

impl<T> Default for ByKey<'_, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'a, T> ByKey<'a, T> {
    /// The value of a key.
    pub(super) fn get(&self, key: Key<'_>) -> Option<&T> {
        self.0.get(key.0)?.get(key.1)
    }

    /// The key as it stands in the map, with its value.
    pub(super) fn entry(&self, key: Key<'_>) -> Option<(Key<'a>, &T)> {
        let (namespace, names) = self.0.get_key_value(key.0)?;
        let (name, value) = names.get_key_value(key.1)?;
        Some(((namespace, name), value))
    }

    /// The value of a key, made if it is not there.
    pub(super) fn or_default(&mut self, key: Key<'a>) -> &mut T
    where
        T: Default,
    {
        self.0.entry(key.0).or_default().entry(key.1).or_default()
    }

    /// Sets the value of a key.
    pub(super) fn insert(&mut self, key: Key<'a>, value: T) {
        self.0.entry(key.0).or_default().insert(key.1, value);
    }

    /// Every key with its value, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key<'a>, &T)> {
        self.0.iter().flat_map(|(namespace, names)| {
            names
                .iter()
                .map(move |(name, value)| ((*namespace, *name), value))
        })
    }
}

impl<'a, T> FromIterator<(Key<'a>, T)> for ByKey<'a, T> {
    fn from_iter<I: IntoIterator<Item = (Key<'a>, T)>>(from: I) -> Self {
        let mut map = Self::default();
        for (key, value) in from {
            map.insert(key, value);
        }
        map
    }
}
