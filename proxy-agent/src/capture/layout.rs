//! What the directories below the kubepods root mean, for both of kubelet's cgroup drivers.
//!
//! | driver | guaranteed pod | burstable pod |
//! |---|---|---|
//! | systemd | `kubepods-pod<UID>.slice` | `kubepods-burstable.slice/kubepods-burstable-pod<UID>.slice` |
//! | cgroupfs | `pod<UID>` | `burstable/pod<UID>` |
//!
//! systemd's names have `_` for `-` in the UID. kind puts `kubelet-` before each (its `--cgroup-root`).
//! Reads directories and files; decides nothing.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a directory is, by its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Directory {
    /// A pod, with its UID as the API writes it.
    Pod(Arc<str>),
    /// A quality-of-service class, with pods below it.
    QualityOfService,
    /// Anything else.
    Other,
}

/// Whether a directory holds the pods of a node.
pub(super) fn is_root_name(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        let plain = name.strip_suffix(".slice").unwrap_or(name);
        plain == "kubepods" || (plain != name && plain.ends_with("-kubepods"))
    })
}

/// Tells what a directory below the root is.
pub(super) fn classify(name: &OsStr) -> Directory {
    let Some(name) = name.to_str() else {
        return Directory::Other;
    };
    if let Some(slice) = name.strip_suffix(".slice") {
        if slice.ends_with("-burstable") || slice.ends_with("-besteffort") {
            return Directory::QualityOfService;
        }
        return slice
            .rsplit_once("-pod")
            .map_or(Directory::Other, |(_, uid)| pod(&uid.replace('_', "-")));
    }
    match name {
        "burstable" | "besteffort" => Directory::QualityOfService,
        _ => name.strip_prefix("pod").map_or(Directory::Other, pod),
    }
}

/// UIDs are UUIDs, 32 hexadecimal digits for static pods, and whatever a manifest file says.
fn pod(uid: &str) -> Directory {
    let is_uid_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !uid.is_empty() && uid.bytes().all(is_uid_byte) {
        Directory::Pod(uid.into())
    } else {
        Directory::Other
    }
}

/// A directory's sub-directories, oldest first: inode numbers of cgroups count upwards
/// (`kernfs_new_node`), so a pod's sandbox comes before its containers.
///
/// # Errors
///
/// The directory is gone.
pub(super) fn subdirectories(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push((entry.ino(), entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_inode, path)| path).collect())
}

/// Processes of a cgroup and of those below it, the oldest cgroup's first.
///
/// A process of a PID namespace that the agent cannot see is listed as 0. What disappears while
/// being read is left out.
pub(super) fn processes(dir: &Path) -> Vec<u32> {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<_> = parse_pids(&procs).collect();
    for child in subdirectories(dir).unwrap_or_default() {
        pids.extend(processes(&child));
    }
    pids
}

/// Whether a cgroup or one below it has a process; one that is gone has none.
pub(super) fn is_populated(dir: &Path) -> bool {
    let events = fs::read_to_string(dir.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

/// The numbers of a `cgroup.procs` file.
pub(super) fn parse_pids(procs: &str) -> impl Iterator<Item = u32> {
    procs.lines().filter_map(|line| line.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b2f4c1e-77aa-4d1c-9c55-0123456789ab";

    fn uid_of(name: &str) -> Option<String> {
        match classify(OsStr::new(name)) {
            Directory::Pod(uid) => Some(uid.to_string()),
            Directory::QualityOfService | Directory::Other => None,
        }
    }

    #[test]
    fn pods_of_both_drivers_have_the_uid_that_the_api_writes() {
        let underscored = UID.replace('-', "_");
        for name in [
            format!("pod{UID}"),
            format!("kubepods-pod{underscored}.slice"),
            format!("kubepods-burstable-pod{underscored}.slice"),
            format!("kubepods-besteffort-pod{underscored}.slice"),
            format!("kubelet-kubepods-besteffort-pod{underscored}.slice"),
        ] {
            assert_eq!(uid_of(&name).as_deref(), Some(UID), "{name}");
        }
    }

    #[test]
    fn static_pods_have_a_hash_for_uid() {
        let hash = "6f1ed002ab5595859014ebf0951522d9";
        let slice = format!("kubepods-burstable-pod{hash}.slice");
        assert_eq!(uid_of(&slice).as_deref(), Some(hash));
    }

    #[test]
    fn what_is_no_pod_has_no_uid() {
        for name in [
            "pod",
            "system.slice",
            "kubepods-pod.slice",
            "podé",
            "init.scope",
            "burstable",
        ] {
            assert_eq!(uid_of(name), None, "{name}");
        }
    }

    #[test]
    fn quality_of_service_directories_of_all_layouts_are_known() {
        for name in [
            "burstable",
            "besteffort",
            "kubepods-burstable.slice",
            "kubelet-kubepods-besteffort.slice",
        ] {
            assert_eq!(
                classify(OsStr::new(name)),
                Directory::QualityOfService,
                "{name}"
            );
        }
    }

    #[test]
    fn roots_of_all_layouts_are_known() {
        for name in ["kubepods", "kubepods.slice", "kubelet-kubepods.slice"] {
            assert!(is_root_name(OsStr::new(name)), "{name}");
        }
        for name in [
            "kubelet.slice",
            "kubepods-burstable.slice",
            "my-kubepods",
            "kubepods.scope",
        ] {
            assert!(!is_root_name(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn pids_are_read_line_by_line() {
        assert_eq!(parse_pids("17\n0\n4\n").collect::<Vec<_>>(), [17, 0, 4]);
        assert_eq!(parse_pids("").count(), 0);
    }
}
