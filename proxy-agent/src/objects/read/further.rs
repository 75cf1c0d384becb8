//! What else is wrong with an object of which one value cannot be read.
//!
//! A reader stops at its first fault. The value there is taken out, and the rest is read again, so
//! that the user learns of all of them at once.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::words;
use crate::objects::accepted::Step;

/// Faults of one object that are named at most.
const MAX_FAULTS: usize = 32;

/// A value that cannot be read, and why.
type Fault = (Vec<Step>, String);

/// Reads a value, or says where it cannot be read; and the fields before that which are not known.
pub(super) fn whole<T: DeserializeOwned>(from: &Value) -> (Result<T, Fault>, Vec<Fault>) {
    let mut ignored = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| ignored.push(words::steps(&path));
    let from = serde_ignored::Deserializer::new(from, &mut note);
    let read = serde_path_to_error::deserialize(from)
        .map_err(|error| (steps(error.path()).0, error.inner().to_string()));
    ignored.retain(|path| !words::is_of_no_matter(path));
    let named = ignored.into_iter().map(|path| {
        let reason = words::unknown_field::<T>(&path);
        (path, reason)
    });
    (read, named.collect())
}

/// Every value of `from` that cannot be read as a `T`, as `first` says of one: its path, and why.
pub(super) fn faults<T: DeserializeOwned>(
    mut from: Value,
    first: &serde_json::Error,
) -> Vec<Fault> {
    let mut found: Vec<Fault> = Vec::new();
    let mut taken: Vec<Vec<Step>> = Vec::new();
    while found.len() < MAX_FAULTS && taken.len() < 2 * MAX_FAULTS {
        let Err(error) = serde_path_to_error::deserialize::<_, T>(&from) else {
            break;
        };
        let reason = error.inner().to_string();
        let (path, exact) = steps(error.path());
        if !exact {
            found.push((path, reason));
            break;
        }
        let is_gap = |one: &Vec<Step>| match one.split_last() {
            Some((Step::Key(key), parent)) => {
                parent == path && reason == format!("missing field `{key}`")
            }
            _ => false,
        };
        // Not the user's fault, but what was taken out before.
        if !taken.iter().any(is_gap) {
            found.push((path.clone(), reason));
        }
        let Some(at) = take(&mut from, &path) else {
            break;
        };
        taken.push(at);
    }
    if found.is_empty() {
        found.push((Vec::new(), first.to_string()));
    }
    found
}

/// The steps to a value as far as they can be told, and whether that is all of them.
fn steps(path: &Path) -> (Vec<Step>, bool) {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    let known: Vec<_> = path.iter().map_while(step).collect();
    let exact = known.len() == path.iter().count();
    (known, exact)
}

/// Takes the value at `path` out; an item takes its list along, for those after it would change
/// their places. Returns what was taken; `None` if that would be all.
fn take(from: &mut Value, path: &[Step]) -> Option<Vec<Step>> {
    let last = path.iter().rposition(|step| matches!(step, Step::Key(_)))?;
    let Step::Key(key) = &path[last] else {
        return None;
    };
    let parent = path[..last]
        .iter()
        .try_fold(from, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        })?;
    parent.as_object_mut()?.remove(key)?;
    Some(path[..=last].to_vec())
}
