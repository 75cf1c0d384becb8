//! The cgroups of a cluster: the same folder in every hierarchy that the machine has mounted.
//!
//! `NAME/nodeN` is what a node takes for its root; its system's processes are in
//! `NAME/nodeN/system/COMPONENT`, its pods where kubelet puts them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// One folder in every cgroup hierarchy.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// Where cgroup2 is mounted.
    unified: PathBuf,
    /// Where the hierarchies of cgroup v1 are; none on a pure cgroup2 machine.
    legacy: Vec<PathBuf>,
    /// Below each of them.
    path: PathBuf,
}

impl Groups {
    /// The groups of this name at the hierarchies' top; nothing is made yet.
    pub(super) fn of_machine(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read mounts")?;
        let mounted = |kind: &str| {
            let fields = mounts
                .lines()
                .map(|line| line.split(' ').collect::<Vec<_>>());
            let of_kind = fields.filter(|fields| fields.get(2) == Some(&kind));
            of_kind
                .filter_map(|fields| Some(PathBuf::from(fields.get(1)?)))
                .collect::<Vec<_>>()
        };
        let unified = mounted("cgroup2").into_iter().next();
        Ok(Self {
            unified: unified.context("cgroup2 is not mounted")?,
            legacy: mounted("cgroup"),
            path: PathBuf::from(name),
        })
    }

    /// The groups of this name below these.
    pub(super) fn child(&self, name: &str) -> Self {
        Self {
            path: self.path.join(name),
            ..self.clone()
        }
    }

    /// Below every mount point.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the groups.
    pub(super) fn make(&self) -> Result<()> {
        for folder in self.folders() {
            fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
            if folder.join("cpuset.mems").exists() && !folder.starts_with(&self.unified) {
                inherit_cpuset(&folder)?;
            }
        }
        Ok(())
    }

    /// Hands the controllers of cgroup2 down to these groups.
    ///
    /// A hybrid machine's cgroup2 has none, and the hierarchies of v1 need no such thing.
    pub(super) fn enable_controllers(&self) -> Result<()> {
        let own = self.unified.join(&self.path);
        let Some(parent) = own.parent() else {
            return Ok(());
        };
        let controllers = fs::read_to_string(parent.join("cgroup.controllers"))?;
        for controller in controllers.split_whitespace() {
            let file = parent.join("cgroup.subtree_control");
            fs::write(&file, format!("+{controller}")).with_context(|| {
                format!(
                    "enable {controller} in {}; processes of {} itself stand in the way: move them to a child",
                    file.display(),
                    parent.display()
                )
            })?;
        }
        Ok(())
    }

    /// Makes the group of cgroup2 alone.
    pub(super) fn make_unified(&self) -> Result<()> {
        let folder = self.unified.join(&self.path);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))
    }

    /// The files that a process writes `0` to in order to join: this group of cgroup2, and those of the
    /// name of `legacy` in the hierarchies of cgroup v1.
    pub(super) fn doors(&self, legacy: &Self) -> Result<Vec<File>> {
        let open = |folder: PathBuf| {
            let door = folder.join("cgroup.procs");
            let opened = File::options().write(true).open(&door);
            opened.with_context(|| format!("open {}", door.display()))
        };
        let legacy = legacy.legacy_folders();
        legacy
            .chain([self.unified.join(&self.path)])
            .map(open)
            .collect()
    }

    /// The processes of these groups, without those of groups below.
    pub(super) fn processes(&self) -> Vec<u32> {
        let listing = fs::read_to_string(self.unified.join(&self.path).join("cgroup.procs"));
        let listing = listing.unwrap_or_default();
        listing.lines().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// The processes of these groups and of those below.
    pub(super) fn all_processes(&self) -> Vec<u32> {
        let below = self.children();
        let below = below.iter().flat_map(Self::all_processes);
        self.processes().into_iter().chain(below).collect()
    }

    /// Memory of the processes of these groups and of those below that is theirs alone, in KiB.
    pub(super) fn memory_kib(&self) -> u64 {
        let own: u64 = self.processes().into_iter().map(anonymous_kib).sum();
        own + self.children().iter().map(Self::memory_kib).sum::<u64>()
    }

    /// Kills the processes of these groups and of those below, and waits until they are gone.
    pub(super) fn kill(&self) -> Result<()> {
        let group = self.unified.join(&self.path);
        if !group.exists() {
            return Ok(());
        }
        fs::write(group.join("cgroup.kill"), "1")
            .with_context(|| format!("kill what is in {}", group.display()))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let events = fs::read_to_string(group.join("cgroup.events"))?;
            if events.lines().any(|line| line == "populated 0") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("processes of {} do not end", group.display());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes the groups with all below; their processes must be gone.
    pub(super) fn remove(&self) -> Result<()> {
        self.folders().try_for_each(|folder| remove_tree(&folder))
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.legacy_folders().chain([self.unified.join(&self.path)])
    }

    fn legacy_folders(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.legacy.iter().map(|mount| mount.join(&self.path))
    }

    fn children(&self) -> Vec<Self> {
        let entries = fs::read_dir(self.unified.join(&self.path));
        let folders = entries.into_iter().flatten().flatten();
        let folders = folders.filter(|entry| entry.path().is_dir());
        folders
            .filter_map(|entry| Some(self.child(entry.file_name().to_str()?)))
            .collect()
    }
}

/// A new group of v1 has no processors and no memory, and lets no process in.
fn inherit_cpuset(folder: &Path) -> Result<()> {
    let parent = folder.parent().context("a cgroup has a parent")?;
    // From the top down: a group can only be given what its parent has.
    if fs::read_to_string(parent.join("cpuset.mems"))?
        .trim()
        .is_empty()
    {
        inherit_cpuset(parent)?;
    }
    for file in ["cpuset.mems", "cpuset.cpus"] {
        let given = fs::read_to_string(parent.join(file))?;
        fs::write(folder.join(file), given.trim())
            .with_context(|| format!("set {file} of {}", folder.display()))?;
    }
    Ok(())
}

fn anonymous_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or_default()
}

fn remove_tree(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_tree(&entry.path())?;
    }
    // Busy for a moment after the last process has ended.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match fs::remove_dir(folder) {
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("remove {}", folder.display()));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                thread::sleep(Duration::from_millis(20));
            }
            _ => return Ok(()),
        }
    }
}
