//! Changes of the pods' cgroups, by inotify.
//!
//! Events only say where to look again: the reader looks at the directories as they are, so that
//! lost, merged and late events do no harm. Decides nothing.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

/// Where something changed since the last look.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Changes {
    /// Pods came or went: list the directories again.
    pub(super) layout: bool,
    /// Events were lost: look at every pod again.
    pub(super) everything: bool,
    /// Pods whose processes or containers changed.
    pub(super) pods: HashSet<Arc<str>>,
}

/// nix's `Inotify` lacks the trait that tokio asks for.
#[derive(Debug)]
struct Queue(Inotify);

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Watches on the root, the quality-of-service directories and the pods.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: AsyncFd<Queue>,
    /// What an event is about; `None` stands for the layout.
    watched: HashMap<WatchDescriptor, Option<Arc<str>>>,
    /// The kernel keeps the watch of a cgroup that is removed (kernfs does not tell inotify), so
    /// each is taken back by its path.
    paths: HashMap<PathBuf, WatchDescriptor>,
}

impl Watch {
    /// # Errors
    ///
    /// `EMFILE`: `fs.inotify.max_user_instances` is used up.
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: `Queue` owns its descriptor, answers the same one at every call, and cannot be
        // made to close it before it is dropped, which `AsyncFd` does after deregistering.
        let inotify = unsafe { AsyncFd::register(Queue(inotify)) }?;
        Ok(Self {
            inotify,
            watched: HashMap::new(),
            paths: HashMap::new(),
        })
    }

    /// Watches a directory whose sub-directories are pods or quality-of-service classes.
    ///
    /// # Errors
    ///
    /// `ENOENT`: it is gone; `ENOSPC`: `fs.inotify.max_user_watches` is used up.
    pub(super) fn add_layout(&mut self, dir: &Path) -> io::Result<()> {
        self.add(dir, AddWatchFlags::IN_ONLYDIR | on_children(), None)
    }

    /// Watches a pod: its containers come and go, its first process appears, its last one ends.
    ///
    /// # Errors
    ///
    /// As [`Watch::add_layout`].
    pub(super) fn add_pod(&mut self, dir: &Path, uid: &Arc<str>) -> io::Result<()> {
        let pod = Some(Arc::clone(uid));
        // The file itself, not only its directory: the kernel tells nobody of a change to a
        // cgroup file whose inode is not in use (kernfs_notify_workfn).
        self.add(&events_file(dir), AddWatchFlags::IN_MODIFY, pod.clone())?;
        self.add(dir, AddWatchFlags::IN_ONLYDIR | on_children(), pod)
    }

    fn add(&mut self, path: &Path, flags: AddWatchFlags, of: Option<Arc<str>>) -> io::Result<()> {
        let descriptor = self.inotify.get_ref().0.add_watch(path, flags)?;
        self.watched.insert(descriptor, of);
        let before = self.paths.insert(path.to_owned(), descriptor);
        if let Some(before) = before.filter(|before| *before != descriptor) {
            self.remove(before);
        }
        Ok(())
    }

    /// Takes back the watches on a pod's directory, which may be gone.
    pub(super) fn forget_pod(&mut self, dir: &Path) {
        for path in [dir, &events_file(dir)] {
            if let Some(descriptor) = self.paths.remove(path) {
                self.remove(descriptor);
            }
        }
    }

    /// Takes back the watches on layout directories that are not among `kept`.
    pub(super) fn keep_layouts(&mut self, kept: &HashSet<PathBuf>) {
        let watched = &self.watched;
        let is_stale = |path: &PathBuf, descriptor: &mut WatchDescriptor| {
            watched.get(descriptor).is_none_or(Option::is_none) && !kept.contains(path)
        };
        let stale: Vec<_> = self.paths.extract_if(is_stale).collect();
        for (_path, descriptor) in stale {
            self.remove(descriptor);
        }
    }

    fn remove(&mut self, descriptor: WatchDescriptor) {
        self.watched.remove(&descriptor);
        // EINVAL: the kernel has dropped it already, as it does for other file systems.
        let _dropped = self.inotify.get_ref().0.rm_watch(descriptor);
    }

    /// Waits for changes. Cancel-safe: what was not returned is returned next time.
    ///
    /// # Errors
    ///
    /// The inotify instance is broken, which ends capture.
    pub(super) async fn changed(&mut self) -> io::Result<Changes> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let events = match ready.get_inner().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    ready.clear_ready();
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            drop(ready);
            let mut changes = Changes::default();
            for event in events {
                self.note(&event, &mut changes);
            }
            return Ok(changes);
        }
    }

    fn note(&mut self, event: &InotifyEvent, changes: &mut Changes) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            changes.layout = true;
            changes.everything = true;
            return;
        }
        let of = if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.watched.remove(&event.wd)
        } else {
            self.watched.get(&event.wd).cloned()
        };
        match of {
            Some(Some(uid)) => {
                changes.pods.insert(uid);
            }
            Some(None) => changes.layout = true,
            None => {}
        }
    }
}

fn events_file(dir: &Path) -> PathBuf {
    dir.join("cgroup.events")
}

fn on_children() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("watch-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[tokio::test]
    async fn a_new_directory_changes_the_layout_and_a_removed_pod_is_named() {
        let root = scratch("layout");
        let mut watch = Watch::new().unwrap();
        watch.add_layout(&root).unwrap();
        let pod = root.join("pod1");
        fs::create_dir(&pod).unwrap();
        assert!(watch.changed().await.unwrap().layout);

        fs::write(pod.join("cgroup.events"), "populated 0\n").unwrap();
        let uid: Arc<str> = "1".into();
        watch.add_pod(&pod, &uid).unwrap();
        fs::write(pod.join("cgroup.events"), "populated 1\n").unwrap();
        let changes = watch.changed().await.unwrap();
        assert!(changes.pods.contains(&uid) && !changes.layout);

        fs::remove_dir_all(&root).unwrap();
    }

    #[tokio::test]
    async fn what_is_forgotten_is_no_longer_told() {
        let root = scratch("forget");
        let (kept, pod) = (root.join("kept"), root.join("pod1"));
        for dir in [&kept, &pod] {
            fs::create_dir(dir).unwrap();
            fs::write(events_file(dir), "populated 0\n").unwrap();
        }
        let mut watch = Watch::new().unwrap();
        watch.add_layout(&root).unwrap();
        watch.add_pod(&pod, &"1".into()).unwrap();
        watch.add_pod(&kept, &"2".into()).unwrap();
        watch.forget_pod(&pod);
        watch.keep_layouts(&HashSet::new());

        fs::write(events_file(&pod), "populated 1\n").unwrap();
        fs::create_dir(root.join("new")).unwrap();
        fs::write(events_file(&kept), "populated 1\n").unwrap();
        let mut changes = watch.changed().await.unwrap();
        while changes.pods.is_empty() {
            changes = watch.changed().await.unwrap();
        }

        fs::remove_dir_all(&root).unwrap();
        assert!(!changes.layout);
        assert_eq!(changes.pods, HashSet::from(["2".into()]));
        assert_eq!((watch.paths.len(), watch.watched.len()), (2, 2));
    }

    #[tokio::test]
    async fn a_lost_event_means_looking_at_everything() {
        let mut watch = Watch::new().unwrap();
        let root = scratch("overflow");
        watch.add_layout(&root).unwrap();
        fs::create_dir(root.join("x")).unwrap();
        let mut event = loop {
            if let Ok(events) = watch.inotify.get_ref().0.read_events() {
                break events.into_iter().next().unwrap();
            }
        };
        event.mask = AddWatchFlags::IN_Q_OVERFLOW;
        let mut changes = Changes::default();
        watch.note(&event, &mut changes);
        fs::remove_dir_all(&root).unwrap();
        assert!(changes.layout && changes.everything);
    }
}
