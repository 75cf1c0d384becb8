//! Bringing the `FRONTENDS` map to what the snapshot wants, with as few writes as there are
//! differences.

use std::collections::HashMap;

use proxy_ebpf::{Frontend, FrontendKey};

use super::Error;
use super::maps::Table;

/// What a reconciliation did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReconcileReport {
    /// New addresses.
    pub inserted: usize,
    /// Addresses with another verdict than before.
    pub updated: usize,
    /// Addresses that are gone.
    pub removed: usize,
}

/// Makes the map equal to `wanted`. `current` is what the map holds, and is kept so.
///
/// Removals come first, for room. When the map is full, the rest is applied all the same and the
/// error is returned at the end.
pub(super) fn reconcile(
    map: &Table<FrontendKey, Frontend>,
    current: &mut HashMap<FrontendKey, Frontend>,
    wanted: &HashMap<FrontendKey, Frontend>,
) -> Result<ReconcileReport, Error> {
    let mut report = ReconcileReport::default();
    let mut trouble = None;
    let gone = current.keys().filter(|key| !wanted.contains_key(*key));
    for key in gone.copied().collect::<Vec<_>>() {
        match map.remove(&key) {
            Ok(_) => {
                current.remove(&key);
                report.removed += 1;
            }
            Err(error) => trouble = Some(error),
        }
    }
    for (key, frontend) in wanted {
        let before = current.get(key);
        if before == Some(frontend) {
            continue;
        }
        let is_new = before.is_none();
        match map.set(key, frontend) {
            Ok(()) if is_new => report.inserted += 1,
            Ok(()) => report.updated += 1,
            Err(error) => {
                trouble = Some(error);
                continue;
            }
        }
        current.insert(*key, *frontend);
    }
    trouble.map_or(Ok(report), Err)
}
