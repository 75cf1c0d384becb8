//! The cgroup tree of a node, in the shapes that kubelet gives it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How kubelet's cgroup driver names things.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Layout {
    /// `kubepods/burstable/podUID/ctr`.
    #[default]
    Cgroupfs,
    /// `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_I_D.slice/ctr.scope`.
    Systemd,
}

/// Whether a process with these cgroups (`/proc/PID/cgroup`) is of the pod with this UID, whichever
/// driver names them.
#[must_use]
pub fn is_of_pod(groups: &str, uid: &str) -> bool {
    let as_systemd = uid.replace('-', "_");
    [uid, &as_systemd]
        .iter()
        .any(|uid| groups.contains(&format!("pod{uid}")))
}

impl Layout {
    pub(crate) fn kubepods(self) -> &'static str {
        match self {
            Self::Cgroupfs => "kubepods",
            Self::Systemd => "kubepods.slice",
        }
    }

    /// Path of a pod's cgroup below kubepods.
    pub(crate) fn pod(self, uid: &str) -> PathBuf {
        match self {
            Self::Cgroupfs => Path::new("burstable").join(format!("pod{uid}")),
            Self::Systemd => {
                let uid = uid.replace('-', "_");
                Path::new("kubepods-burstable.slice")
                    .join(format!("kubepods-burstable-pod{uid}.slice"))
            }
        }
    }

    pub(crate) fn container(self, id: &str) -> String {
        match self {
            Self::Cgroupfs => id.to_owned(),
            Self::Systemd => format!("cri-containerd-{id}.scope"),
        }
    }
}

/// One cgroup directory; its processes are killed and it is removed on drop, with all below it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    procs: Arc<File>,
}

impl Cgroup {
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("make cgroup {}", path.display()))?;
        let procs = File::options().write(true).open(path.join("cgroup.procs"));
        let procs = procs.with_context(|| format!("open cgroup.procs of {}", path.display()))?;
        Ok(Self {
            path,
            procs: Arc::new(procs),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A process that writes `0` to this file has joined.
    pub(crate) fn procs(&self) -> &Arc<File> {
        &self.procs
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove_tree(&self.path);
    }
}

/// Where cgroup2 is mounted: `/sys/fs/cgroup`, or below it on a hybrid machine.
pub(crate) fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read mountinfo")?;
    let is_cgroup2 = |line: &&str| {
        let kind = line
            .split(" - ")
            .nth(1)
            .and_then(|tail| tail.split(' ').next());
        kind == Some("cgroup2")
    };
    let line = mounts
        .lines()
        .find(is_cgroup2)
        .context("cgroup2 is not mounted")?;
    line.split(' ')
        .nth(4)
        .map(PathBuf::from)
        .context("mountinfo has no mount point")
}

/// Kills everything in a cgroup and removes it with its descendants; best effort.
pub(crate) fn remove_tree(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    let deadline = Instant::now() + Duration::from_secs(5);
    while !remove_once(path) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Removes from the leaves up; false while a dying process still holds a directory.
fn remove_once(path: &Path) -> bool {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove_once(&entry.path());
        }
    }
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_kubelet() {
        let cgroupfs = Layout::Cgroupfs.pod("a-b");
        let systemd = Layout::Systemd.pod("a-b");

        assert_eq!(cgroupfs, Path::new("burstable/poda-b"));
        let expected = "kubepods-burstable.slice/kubepods-burstable-poda_b.slice";
        assert_eq!(systemd, Path::new(expected));
        for path in [cgroupfs, systemd] {
            let groups = format!("0::/{}/ctr", path.display());
            assert!(is_of_pod(&groups, "a-b") && !is_of_pod(&groups, "a-c"));
        }
    }
}
