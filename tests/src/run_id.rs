//! Names that tell whose they are, and the sweep of what dead runs left behind.
//!
//! Every netns, cgroup and directory of a node starts with `pa-PID-SEQ`: the process that made
//! it. A sweep removes only what belongs to processes that are gone.

use std::fs;
use std::path::Path;
use std::process::{self, Command};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cgroup;

const PREFIX: &str = "pa-";

/// A name that no other node on this machine has.
pub(crate) fn unique() -> String {
    static SEQUENCE: AtomicU32 = AtomicU32::new(0);
    static SWEEP: Once = Once::new();
    SWEEP.call_once(sweep);
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{sequence}", process::id())
}

/// Removes cgroups, network namespaces and directories of runs whose process is gone.
///
/// Best effort: what cannot be removed now is tried again by the next run.
fn sweep() {
    if let Ok(mount) = cgroup::mount_point() {
        for name in leftovers(&mount) {
            cgroup::remove_tree(&mount.join(name));
        }
    }
    for name in leftovers(Path::new("/run/netns")) {
        // The exit status is of no use: another run may be sweeping the same name.
        let _ = Command::new("ip").args(["netns", "del", &name]).status();
    }
    let scratch = std::env::temp_dir();
    for name in leftovers(&scratch) {
        let _ = fs::remove_dir_all(scratch.join(name));
    }
}

fn leftovers(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| owner_is_gone(name)).collect()
}

fn owner_is_gone(name: &str) -> bool {
    let owner = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('-').next());
    let Some(pid) = owner.and_then(|pid| pid.parse::<u32>().ok()) else {
        return false;
    };
    !Path::new(&format!("/proc/{pid}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_owners_are_swept() {
        assert!(!owner_is_gone(&format!("pa-{}-0-node", process::id())));
        assert!(!owner_is_gone("pa-x"));
        assert!(!owner_is_gone("kubepods"));
        // Above the kernel's highest pid (include/linux/threads.h: 4 * 1024 * 1024).
        assert!(owner_is_gone("pa-4999999-0-node"));
    }
}
