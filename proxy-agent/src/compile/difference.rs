//! What came and what went between two readings of a source.
//!
//! A source hands out the same `Arc` for an object until the object changes, so pointers tell.
//! Sound as long as the former reading is kept alive: no address is used again.

use std::collections::HashSet;
use std::sync::Arc;

use crate::objects::Located;

/// Objects of one reading that are not in the other.
#[derive(Debug)]
pub(super) struct Difference<'a> {
    /// Those of the former one.
    pub gone: Vec<&'a Arc<Located>>,
    /// Those of the present one.
    pub new: Vec<&'a Arc<Located>>,
}

/// Compares two readings. Costs a comparison of pointers for each object where the order stays.
pub(super) fn difference<'a>(
    former: &[&'a Arc<Located>],
    present: &[&'a Arc<Located>],
) -> Difference<'a> {
    let same = |(one, other): &(&&Arc<Located>, &&Arc<Located>)| Arc::ptr_eq(one, other);
    let head = former.iter().zip(present).take_while(same).count();
    let (former, present) = (&former[head..], &present[head..]);
    let pairs = former.iter().rev().zip(present.iter().rev());
    let tail = pairs.take_while(same).count();
    let former = &former[..former.len() - tail];
    let present = &present[..present.len() - tail];
    if former.len() == present.len() {
        // The usual case: objects replaced in place.
        let pairs = || former.iter().zip(present).filter(|pair| !same(pair));
        let mut gone: Vec<_> = pairs().map(|(one, _)| *one).collect();
        let mut new: Vec<_> = pairs().map(|(_, other)| *other).collect();
        drop_common(&mut gone, &mut new);
        return Difference { gone, new };
    }
    let (mut gone, mut new) = (former.to_vec(), present.to_vec());
    drop_common(&mut gone, &mut new);
    Difference { gone, new }
}

/// Drops what is in both, wherever it stands.
fn drop_common(gone: &mut Vec<&Arc<Located>>, new: &mut Vec<&Arc<Located>>) {
    let pointers = |all: &[&Arc<Located>]| all.iter().map(|one| Arc::as_ptr(one)).collect();
    let (before, now): (HashSet<_>, HashSet<_>) = (pointers(gone), pointers(new));
    gone.retain(|one| !now.contains(&Arc::as_ptr(one)));
    new.retain(|one| !before.contains(&Arc::as_ptr(one)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ObjectId, Place};
    use crate::objects::Object;

    fn pool() -> Vec<Arc<Located>> {
        let one = |name: usize| Located {
            id: ObjectId {
                group: "".into(),
                kind: "X".into(),
                namespace: "".into(),
                name: format!("{name}").into(),
            },
            place: Place {
                source: "test".into(),
                line: 0,
            },
            object: Object::Unknown,
            unread: Vec::new(),
        };
        (0..8).map(|name| Arc::new(one(name))).collect()
    }

    fn names(objects: &[&Arc<Located>]) -> Vec<String> {
        let mut names: Vec<_> = objects.iter().map(|one| one.id.name.to_string()).collect();
        names.sort();
        names
    }

    proptest! {
        #[test]
        fn what_is_in_one_reading_alone_is_told_whatever_the_order(
            former in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
            present in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
            lengths in (0..8_usize, 0..8_usize),
        ) {
            let pool = pool();
            let take = |places: &[usize], length: usize| -> Vec<Arc<Located>> {
                places[..length].iter().map(|place| Arc::clone(&pool[*place])).collect()
            };
            let (one, other) = (take(&former, lengths.0), take(&present, lengths.1));
            let found = difference(&one.iter().collect::<Vec<_>>(), &other.iter().collect::<Vec<_>>());
            let only = |a: &[Arc<Located>], b: &[Arc<Located>]| -> Vec<String> {
                let alone: Vec<_> = a.iter().filter(|x| b.iter().all(|y| !Arc::ptr_eq(x, y))).collect();
                names(&alone)
            };
            prop_assert_eq!(names(&found.gone), only(&one, &other));
            prop_assert_eq!(names(&found.new), only(&other, &one));
        }
    }
}
