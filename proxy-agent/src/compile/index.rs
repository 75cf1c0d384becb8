//! Objects of all sources, by kind and by name, kept from one compilation to the next.

mod age;
mod entries;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::by_key::{ByKey, Key, Name};
use super::difference::difference;
use super::kind::{Kind, Typed};
use super::labels::Labelled;
use super::problems::{Found, Part, Problems};
use crate::model::{ObjectId, Place};
use crate::objects::{Located, ObjectSet, Objects, Origin, SERVICE_NAME, Slice};

pub(super) use age::created;

/// An object with where it stands.
#[derive(Debug)]
pub(super) struct At<'a, T> {
    /// Its identity and place.
    pub located: &'a Arc<Located>,
    /// The object itself.
    pub object: &'a T,
    /// Where its source has it from.
    pub origin: Origin,
}

impl<T> At<'_, T> {
    /// Namespace and name.
    pub(super) fn key(&self) -> Key<'_> {
        (&self.located.id.namespace, &self.located.id.name)
    }
}

/// An object and the source that holds it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The object.
    pub located: Arc<Located>,
    /// Where its source has it from.
    pub origin: Origin,
    /// Number of its source: the lowest is in force.
    source: usize,
}

impl Held {
    /// Namespace and name.
    pub(super) fn name(&self) -> Name {
        Name {
            namespace: Arc::clone(&self.located.id.namespace),
            name: Arc::clone(&self.located.id.name),
        }
    }

    /// As an object of one kind, if it is of it.
    pub(super) fn at<T: Typed>(&self) -> Option<At<'_, T>> {
        Some(At {
            located: &self.located,
            object: T::of(&self.located.object)?,
            origin: self.origin,
        })
    }
}

/// An object in force that is another than before, was not there, or is gone.
#[derive(Debug)]
pub(super) struct Change {
    pub former: Option<Held>,
    pub present: Option<Held>,
}

/// Where an object is kept: two versions of one kind may differ in whether they are read.
type Slot = (Option<Kind>, ObjectId);

fn slot(located: &Located) -> Slot {
    (Kind::of(&located.object), located.id.clone())
}

/// Every object once.
#[derive(Debug, Default)]
pub(super) struct Index {
    kinds: BTreeMap<Kind, ByKey<Held>>,
    unknown: BTreeMap<ObjectId, Held>,
    /// Objects that another source's stand before, by number of source.
    shadowed: BTreeMap<Slot, Vec<Held>>,
    /// Pods by label.
    labelled: Labelled,
    /// Names of EndpointSlices by the Service that they belong to.
    slices: ByKey<BTreeSet<Arc<str>>>,
    /// DestinationRules by the Service that they are for, or by host alone, of no namespace.
    rules: ByKey<BTreeSet<Name>>,
    /// DestinationRules with a wildcard, by what the names of their Services end with.
    wildcards: BTreeMap<Arc<str>, BTreeSet<Name>>,
    /// ServiceEntries by what they stand for.
    entries: entries::Entries,
}

impl Index {
    /// Takes over what the sources hold now; `before` is what they held at the last call. Of an
    /// object in two sources the first source's counts.
    pub(super) fn update(
        &mut self,
        before: &[Arc<ObjectSet>],
        now: &[Arc<ObjectSet>],
        found: &mut Found,
    ) -> Vec<Change> {
        let mut touched: BTreeMap<Slot, Option<Held>> = BTreeMap::new();
        for (source, set) in now.iter().enumerate() {
            let former = before.get(source);
            if former.is_some_and(|former| Arc::ptr_eq(former, set)) {
                continue;
            }
            let none = Objects::default();
            let former = former.map_or(&none, |former| &former.objects);
            let (old, new) = (
                former.not_shared_with(&set.objects),
                set.objects.not_shared_with(former),
            );
            let difference = difference(&old, &new);
            for located in difference.gone {
                let slot = slot(located);
                let held = self.held(&slot).cloned();
                touched.entry(slot.clone()).or_insert(held);
                self.remove(slot, located);
            }
            for located in difference.new {
                let slot = slot(located);
                let held = self.held(&slot).cloned();
                touched.entry(slot.clone()).or_insert(held);
                let held = Held {
                    located: Arc::clone(located),
                    origin: set.origin,
                    source,
                };
                self.add(slot, held);
            }
        }
        let mut changes = Vec::new();
        for (slot, former) in touched {
            self.name_the_shadowed(&slot, found);
            let present = self.held(&slot).cloned();
            let same = match (&former, &present) {
                (Some(one), Some(other)) => Arc::ptr_eq(&one.located, &other.located),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !same {
                let change = Change { former, present };
                self.relate(&change, found);
                changes.push(change);
            }
        }
        changes
    }

    /// The object of a type and a name.
    pub(super) fn get<T: Typed>(&self, key: Key<'_>) -> Option<At<'_, T>> {
        self.kinds.get(&T::KIND)?.get(key)?.at()
    }

    /// Every object of a type, by namespace and name.
    pub(super) fn all<T: Typed>(&self) -> impl Iterator<Item = At<'_, T>> {
        let objects = self.kinds.get(&T::KIND).into_iter();
        objects.flat_map(ByKey::values).filter_map(Held::at)
    }

    /// Every object of a type in a namespace, by name.
    pub(super) fn of_namespace<'s, T: Typed>(
        &'s self,
        namespace: &'s str,
    ) -> impl Iterator<Item = At<'s, T>> {
        let objects = self.kinds.get(&T::KIND).into_iter();
        let objects = objects.flat_map(move |objects| objects.of_namespace(namespace));
        objects.filter_map(|(_, held)| held.at())
    }

    /// Whether there is an object of a type.
    pub(super) fn has<T: Typed>(&self) -> bool {
        self.all::<T>().next().is_some()
    }

    /// The EndpointSlices of a Service; `None` where it has none at all.
    pub(super) fn slices<'s>(
        &'s self,
        service: Key<'s>,
    ) -> Option<impl Iterator<Item = At<'s, Slice>>> {
        let names = self.slices.get(service)?;
        Some(
            names
                .iter()
                .filter_map(move |name| self.get((service.0, name))),
        )
    }

    /// The pods of a namespace that carry every label of `selector`, by name; none for an empty
    /// selector.
    pub(super) fn selected<'s>(
        &'s self,
        namespace: &'s str,
        selector: &'s BTreeMap<String, String>,
    ) -> impl Iterator<Item = At<'s, Pod>> {
        let first = selector.iter().next();
        let names = first.and_then(|(label, value)| self.labelled.get(namespace, label, value));
        let pods = names.into_iter().flatten();
        let pods = pods.filter_map(move |name| self.get::<Pod>((namespace, name)));
        pods.filter(move |at| {
            let labels = at.object.metadata.labels.as_ref();
            let carries = |label, value| labels.and_then(|all| all.get(label)) == Some(value);
            selector.iter().all(|(label, value)| carries(label, value))
        })
    }

    /// An object of a kind that is not read.
    pub(super) fn unread(&self, id: &ObjectId) -> bool {
        self.unknown.contains_key(id)
    }

    /// Every object of a kind that is not read.
    pub(super) fn all_unread(&self) -> Arc<[(ObjectId, Place)]> {
        let held = self.unknown.iter();
        held.map(|(id, held)| (id.clone(), held.located.place.clone()))
            .collect()
    }

    /// Number of objects of kinds that are read.
    pub(super) fn len(&self) -> usize {
        let kinds = self.kinds.iter();
        let kinds = kinds.filter(|(kind, _)| **kind != Kind::Resolution);
        kinds.map(|(_, objects)| objects.len()).sum()
    }

    fn held(&self, (kind, id): &Slot) -> Option<&Held> {
        match kind {
            Some(kind) => self.kinds.get(kind)?.get((&id.namespace, &id.name)),
            None => self.unknown.get(id),
        }
    }

    fn put(&mut self, (kind, id): &Slot, held: Held) {
        match kind {
            Some(kind) => {
                let name = held.name();
                self.kinds.entry(*kind).or_default().insert(&name, held);
            }
            None => {
                self.unknown.insert(id.clone(), held);
            }
        }
    }

    fn add(&mut self, slot: Slot, held: Held) {
        let shadowed = match self.held(&slot) {
            Some(first) if first.source <= held.source => held,
            Some(first) => {
                let first = first.clone();
                self.put(&slot, held);
                first
            }
            None => return self.put(&slot, held),
        };
        let others = self.shadowed.entry(slot).or_default();
        let place = others.partition_point(|other| other.source <= shadowed.source);
        others.insert(place, shadowed);
    }

    fn remove(&mut self, slot: Slot, located: &Arc<Located>) {
        let is = |held: &Held| Arc::ptr_eq(&held.located, located);
        let in_force = self.held(&slot).is_some_and(is);
        let mut others = self.shadowed.remove(&slot).unwrap_or_default();
        if !in_force {
            others.retain(|other| !is(other));
        } else if !others.is_empty() {
            let next = others.remove(0);
            self.put(&slot, next);
        } else if let (Some(kind), id) = &slot {
            let objects = self.kinds.get_mut(kind);
            objects.and_then(|objects| objects.remove((&id.namespace, &id.name)));
        } else {
            self.unknown.remove(&slot.1);
        }
        if !others.is_empty() {
            self.shadowed.insert(slot, others);
        }
    }

    fn name_the_shadowed(&self, slot: &Slot, found: &mut Found) {
        let mut problems = Problems::default();
        if let Some(first) = self.held(slot) {
            let place = &first.located.place;
            for held in self.shadowed.get(slot).into_iter().flatten() {
                let reason = format!("stands at {place} too, which is in force");
                problems.error(&held.located, "", reason);
            }
        }
        let (kind, id) = slot;
        let name = Name {
            namespace: format!("{} {} {} {kind:?}", id.namespace, id.kind, id.group).into(),
            name: Arc::clone(&id.name),
        };
        found.set(Part::Twice, &name, problems);
    }

    /// Keeps what leads from one object to another in line with a change.
    fn relate(&mut self, change: &Change, found: &mut Found) {
        if let Some((name, at)) = change.former.as_ref().and_then(pod) {
            self.labelled
                .remove(&name, at.object.metadata.labels.as_ref());
        }
        if let Some((name, at)) = change.present.as_ref().and_then(pod) {
            self.labelled.add(&name, at.object.metadata.labels.as_ref());
        }
        self.relate_rules(change);
        self.relate_entries(change);
        if let Some(at) = change.former.as_ref().and_then(Held::at::<Slice>) {
            let name = Name::from(at.key());
            found.set(Part::Slice, &name, Problems::default());
            if let Some(service) = service_of(&at) {
                let slices = self.slices.or_default(&service);
                slices.remove(&name.name);
                if slices.is_empty() {
                    self.slices.remove(service.key());
                }
            }
        }
        if let Some(held) = &change.present
            && let Some(at) = held.at::<Slice>()
        {
            let name = held.name();
            let mut problems = Problems::default();
            match service_of(&at) {
                Some(service) => {
                    self.slices
                        .or_default(&service)
                        .insert(Arc::clone(&name.name));
                }
                None => {
                    let reason =
                        format!("no label {SERVICE_NAME}: the slice belongs to no Service");
                    problems.warning(at.located, "metadata.labels", reason);
                }
            }
            found.set(Part::Slice, &name, problems);
        }
    }
}

fn pod(held: &Held) -> Option<(Name, At<'_, Pod>)> {
    Some((held.name(), held.at()?))
}

/// The Service that a slice belongs to.
pub(super) fn service_of(at: &At<'_, Slice>) -> Option<Name> {
    Some(Name {
        namespace: Arc::clone(&at.located.id.namespace),
        name: Arc::clone(at.object.service.as_ref()?),
    })
}
