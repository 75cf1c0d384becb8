//! The pods of this node, enrolled as their cgroups appear and as the last snapshot decides.
//!
//! A pod is found through its cgroup, through that a process, through that its network namespace.
//! Its connections are captured once three things hold, in this order: the listeners stand in its
//! namespace, the proxy serves them, and the `PODS` map names it. They are undone in reverse, so
//! that no connection is ever steered to a listener that is not there.
//!
//! One task per pod (`pod`) looks at the world as it is; inotify (`watch`) only wakes it. The
//! kernel's map and the proxy are reached through [`Enrol`] and [`Serve`] alone.

pub mod cgroup;
mod first_look;
mod inherited;
mod layout;
mod pod;
mod report;
mod seams;
mod surroundings;
mod watch;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::model::Snapshot;

use self::layout::Directory;
use self::pod::{Claims, Context, PodTask};
use self::watch::Watch;

pub use self::first_look::FirstLook;
pub use self::inherited::Inherited;
pub use self::report::CaptureStatus;
pub use self::seams::{Ack, BoxError, Enrol, Serve, ServedPod};
pub use self::surroundings::Surroundings;

/// When to look again after a directory could not be watched.
const RESCAN_AFTER: Duration = Duration::from_secs(5);

/// Why capture ended. What was enrolled has been taken back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root's directory was removed: programs attached to it see nothing any more. Start again.
    #[error("the cgroup {} is gone", .root.display())]
    RootGone {
        /// The root.
        root: PathBuf,
    },
    /// inotify does not work: raise `fs.inotify.max_user_instances` or `max_user_watches`.
    #[error("cannot watch {}: is a limit of fs.inotify used up?", .root.display())]
    Watch {
        /// The root.
        root: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What capture works on.
#[derive(Debug)]
pub struct Capture {
    /// The directory that holds the pods' cgroups, from [`cgroup::find_root`].
    pub root: PathBuf,
    /// How many listeners of each family a pod gets.
    pub workers: usize,
    /// The namespaces that are no pod's.
    pub surroundings: Surroundings,
    /// The kernel side.
    pub enrol: Arc<dyn Enrol>,
    /// The proxy.
    pub serve: Arc<dyn Serve>,
    /// Where the state of the pods is published.
    pub status: CaptureStatus,
    /// Listeners of another agent that this one takes over from.
    pub inherited: Inherited,
    /// Where it is told what has become of the pods that are there at the start.
    pub first_look: FirstLook,
}

impl Capture {
    /// Enrols pods until `shutdown`, then removes every `PODS` entry and returns; the listeners
    /// stay with the proxy, which drains them.
    ///
    /// Reads small files and enters namespaces in place, so it belongs on the control runtime.
    ///
    /// # Errors
    ///
    /// See [`Error`]. The entries have been removed then, too.
    pub async fn run(
        self,
        snapshots: Receiver<Arc<Snapshot>>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let mut pods = Pods::new(self, snapshots)?;
        // Dropped with this future, too: the pods' tasks must not outlive it.
        let leave = pods.context.leave.clone().drop_guard();
        let ended = pods.follow(&shutdown).await;
        drop(leave);
        pods.tasks_open.close();
        pods.tasks_open.wait().await;
        ended
    }
}

/// The pods that have a task.
struct Pods {
    root: PathBuf,
    root_inode: u64,
    context: Arc<Context>,
    snapshots: Receiver<Arc<Snapshot>>,
    watch: Watch,
    tasks: HashMap<Arc<str>, Task>,
    /// Tasks of pods that are gone, until their end: a successor with the same UID waits for it.
    ending: HashMap<Arc<str>, JoinHandle<()>>,
    tasks_open: TaskTracker,
}

/// Directory and inode number of each pod, by UID.
type Found = HashMap<Arc<str>, (PathBuf, u64)>;

struct Task {
    dir: PathBuf,
    /// Tells a directory from its successor with the same name.
    inode: u64,
    kick: Arc<Notify>,
    gone: CancellationToken,
    handle: JoinHandle<()>,
}

impl Pods {
    fn new(capture: Capture, snapshots: Receiver<Arc<Snapshot>>) -> Result<Self, Error> {
        let watch = Watch::new().map_err(|source| Error::Watch {
            root: capture.root.clone(),
            source,
        })?;
        let root_inode = capture.root.metadata().map_or(0, |found| found.ino());
        Ok(Self {
            root: capture.root,
            root_inode,
            context: Arc::new(Context {
                workers: capture.workers,
                surroundings: capture.surroundings,
                enrol: capture.enrol,
                serve: capture.serve,
                status: capture.status,
                inherited: capture.inherited,
                first_look: capture.first_look,
                claims: Claims::default(),
                leave: CancellationToken::new(),
            }),
            snapshots,
            watch,
            tasks: HashMap::new(),
            ending: HashMap::new(),
            tasks_open: TaskTracker::new(),
        })
    }

    async fn follow(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        let mut complete = self.rescan()?;
        self.context.status.mark_scanned();
        self.context.first_look.listed();
        let tasks = &self.tasks;
        self.context.inherited.keep(|uid| tasks.contains_key(uid));
        info!(root = %self.root.display(), pods = self.tasks.len(), "watching for pods");
        loop {
            let retry = async {
                if complete {
                    std::future::pending().await
                } else {
                    sleep(RESCAN_AFTER).await;
                }
            };
            let changes = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = retry => {
                    complete = self.rescan()?;
                    continue;
                }
                changes = self.watch.changed() => changes,
            };
            let changes = changes.map_err(|source| Error::Watch {
                root: self.root.clone(),
                source,
            })?;
            let changed = |uid: &Arc<str>| changes.everything || changes.pods.contains(uid);
            for (_uid, task) in self.tasks.iter().filter(|(uid, _task)| changed(uid)) {
                task.kick.notify_one();
            }
            if changes.layout {
                complete = self.rescan()?;
            }
        }
    }

    /// Gives each pod directory that is there a task and ends those of the others. Answers whether
    /// all of them could be watched.
    fn rescan(&mut self) -> Result<bool, Error> {
        let (found, mut complete) = self.list()?;
        self.ending.retain(|_uid, handle| !handle.is_finished());
        let is_there = |uid: &Arc<str>, task: &mut Task| {
            found
                .get(uid)
                .is_some_and(|(_dir, inode)| *inode == task.inode)
        };
        let gone = self.tasks.extract_if(|uid, task| !is_there(uid, task));
        for (uid, task) in gone {
            task.gone.cancel();
            self.watch.forget_pod(&task.dir);
            self.ending.insert(uid, task.handle);
        }
        for (uid, (dir, inode)) in found {
            if !self.tasks.contains_key(&uid) {
                complete &= self.start(uid, dir, inode);
            }
        }
        Ok(complete)
    }

    fn start(&mut self, uid: Arc<str>, dir: PathBuf, inode: u64) -> bool {
        if let Err(error) = self.watch.add_pod(&dir, &uid) {
            return is_gone_or_warn(&dir, &error);
        }
        self.context.first_look.add(&uid);
        let (kick, gone) = (Arc::new(Notify::new()), CancellationToken::new());
        let cgroup = dir
            .strip_prefix(&self.root)
            .unwrap_or(&dir)
            .display()
            .to_string();
        let task = PodTask::new(
            Arc::clone(&self.context),
            Arc::clone(&uid),
            dir.clone(),
            cgroup,
            self.snapshots.clone(),
        );
        let predecessor = self.ending.remove(&uid);
        let run = task.run(predecessor, Arc::clone(&kick), gone.clone());
        let handle = self.tasks_open.spawn(run);
        let task = Task {
            dir,
            inode,
            kick,
            gone,
            handle,
        };
        self.tasks.insert(uid, task);
        true
    }

    /// The programs are attached to one directory: another one by the same name is not it.
    fn check_root(&mut self) -> Result<(), Error> {
        let root = &self.root;
        if !root
            .metadata()
            .is_ok_and(|found| found.ino() == self.root_inode)
        {
            return Err(Error::RootGone { root: root.clone() });
        }
        // Of the root's own end only its parent is told.
        let dirs = [root.parent().unwrap_or(root), root];
        let mut watched = dirs.into_iter().map(|dir| self.watch.add_layout(dir));
        watched
            .try_for_each(|added| added)
            .map_err(|source| Error::Watch {
                root: root.clone(),
                source,
            })
    }

    /// Watches first and lists then, so that nothing can appear in between unseen.
    fn list(&mut self) -> Result<(Found, bool), Error> {
        let root = self.root.clone();
        self.check_root()?;
        let mut found = Found::new();
        let mut layouts: HashSet<_> = [root.parent(), Some(&root)]
            .into_iter()
            .flatten()
            .map(Path::to_owned)
            .collect();
        let mut complete = true;
        for dir in layout::subdirectories(&root).unwrap_or_default() {
            match classify(&dir) {
                Directory::Pod(uid) => note(&mut found, uid, dir),
                Directory::Other => {}
                Directory::QualityOfService => {
                    if let Err(error) = self.watch.add_layout(&dir) {
                        complete &= is_gone_or_warn(&dir, &error);
                    }
                    for child in layout::subdirectories(&dir).unwrap_or_default() {
                        if let Directory::Pod(uid) = classify(&child) {
                            note(&mut found, uid, child);
                        }
                    }
                    layouts.insert(dir);
                }
            }
        }
        self.watch.keep_layouts(&layouts);
        Ok((found, complete))
    }
}

fn classify(dir: &Path) -> Directory {
    dir.file_name().map_or(Directory::Other, layout::classify)
}

fn note(found: &mut Found, uid: Arc<str>, dir: PathBuf) {
    if let Ok(metadata) = dir.metadata() {
        found.insert(uid, (dir, metadata.ino()));
    }
}

/// A directory that is gone again needs no watch.
fn is_gone_or_warn(dir: &Path, error: &io::Error) -> bool {
    let gone = error.kind() == io::ErrorKind::NotFound;
    if !gone {
        let dir = dir.display();
        warn!(%dir, %error, "cannot watch a cgroup: is fs.inotify.max_user_watches used up?");
    }
    gone
}
