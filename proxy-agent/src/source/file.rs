//! Objects from a directory of manifests, watched by inotify.
//!
//! Files named `*.yaml`, `*.yml` and `*.json` in the directory itself; hidden files and
//! subdirectories are not read. A file is read when its writer closes it, when it is renamed into
//! place, linked or removed, and when the `..data` link of a ConfigMap volume is swapped. What
//! cannot be read leaves the last good version in force and one problem that says so.

mod contents;
mod manifest;
mod signals;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, sleep, timeout};

use self::contents::Contents;
use self::signals::{Changes, Signals};
use crate::objects::ObjectSet;

/// Changes are read when none has come for this long: one `git checkout` is one update.
const QUIET: Duration = Duration::from_millis(10);
/// Changes are read after this long although more are coming.
const GATHER: Duration = Duration::from_millis(30);
/// A name that has gone is believed after this much more: editors move a file away before they
/// write it anew, and `rm -r` removes files one by one before their directory.
const BELIEVE: Duration = Duration::from_millis(60);
/// How often the directory is looked at itself, to notice that it is gone, or back.
const LOOK: Duration = Duration::from_millis(100);

/// Why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened: name a directory that exists, with `--source file:DIR`.
    #[error("cannot open {}; --source file:DIR needs a directory that exists", path.display())]
    Open {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no directory: name the directory that the file is in.
    #[error("{} is no directory; --source file:DIR needs one", path.display())]
    NotADirectory {
        /// The path as given.
        path: PathBuf,
    },
    /// inotify refuses: raise fs.inotify.max_user_instances or max_user_watches.
    #[error("cannot watch {}; see fs.inotify.max_user_instances and max_user_watches", path.display())]
    Watch {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
    /// Reading panicked: a bug; the last state stays in force.
    #[error("reading {} stopped", path.display())]
    Stopped {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: tokio::task::JoinError,
    },
}

/// A watched directory. Nothing is noticed unless [`Self::run`] runs.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    sets: watch::Sender<Arc<ObjectSet>>,
    watched: Box<Watched>,
}

/// Reads a directory and begins to watch it. Blocks for the first read.
///
/// # Errors
/// See [`Error`]: each says what to change.
pub fn watch(path: PathBuf) -> Result<FileSource, Error> {
    let meta = fs::metadata(&path).map_err(|source| Error::Open {
        path: path.clone(),
        source,
    })?;
    if !meta.is_dir() {
        return Err(Error::NotADirectory { path });
    }
    let mut watched = Box::new(Watched {
        contents: Contents::new(&path),
        signals: Arc::default(),
        watcher: None,
    });
    watched
        .begin(identity(&meta))
        .map_err(|source| Error::Watch {
            path: path.clone(),
            source,
        })?;
    watched.contents.update(&Changes::everything());
    let (sets, _) = watch::channel(Arc::new(watched.contents.set()));
    Ok(FileSource {
        path,
        sets,
        watched,
    })
}

/// Reads a file, or a directory as [`watch()`] would, once.
pub fn read(path: &Path) -> ObjectSet {
    Contents::once(path).set()
}

impl FileSource {
    /// What the directory holds, now and whenever that changes.
    pub fn sets(&self) -> watch::Receiver<Arc<ObjectSet>> {
        self.sets.subscribe()
    }

    /// Keeps [`Self::sets`] up to date until it is cancelled. Cancel-safe: what is being read when
    /// it is dropped is not published.
    ///
    /// # Errors
    /// Returns only when reading panicked.
    pub async fn run(self) -> Error {
        let Self {
            path,
            sets,
            mut watched,
        } = self;
        let signals = Arc::clone(&watched.signals);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let at = tokio::select! {
                () = signals.wait() => {
                    // However it ends, the changes until now are read.
                    let _either = timeout(GATHER, quiet(&signals)).await;
                    if signals.lost() {
                        sleep(BELIEVE).await;
                    }
                    LookAt::Files
                }
                _ = look.tick() => LookAt::Directory,
            };
            let update = spawn_blocking(move || {
                let set = watched.update(at);
                (watched, set)
            });
            let set;
            (watched, set) = match update.await {
                Ok(done) => done,
                Err(source) => return Error::Stopped { path, source },
            };
            if let Some(set) = set {
                sets.send_replace(Arc::new(set));
            }
        }
    }
}

/// Returns when nothing has changed for [`QUIET`].
async fn quiet(signals: &Signals) {
    while timeout(QUIET, signals.wait()).await.is_ok() {}
}

/// What an update looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LookAt {
    /// Whether the directory is there.
    Directory,
    /// That, and the files that have changed.
    Files,
}

/// Device, inode and birth: a directory that is removed and made again is another one, even where
/// the file system gives it the old inode.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(meta: &fs::Metadata) -> Identity {
    (meta.dev(), meta.ino(), meta.created().ok())
}

/// What is known of the directory, and the watch on it.
#[derive(Debug)]
struct Watched {
    contents: Contents,
    signals: Arc<Signals>,
    watcher: Option<(Identity, RecommendedWatcher)>,
}

impl Watched {
    fn begin(&mut self, identity: Identity) -> notify::Result<()> {
        let path = std::path::absolute(self.contents.path())?;
        let signals = Arc::clone(&self.signals);
        let mut watcher = notify::recommended_watcher(move |event| signals.add(event))?;
        watcher.watch(&path, RecursiveMode::NonRecursive)?;
        self.watcher = Some((identity, watcher));
        Ok(())
    }

    /// Reads what has changed; `None` if nothing has.
    fn update(&mut self, at: LookAt) -> Option<ObjectSet> {
        let now = fs::metadata(self.contents.path())
            .ok()
            .filter(fs::Metadata::is_dir);
        let changed = match (now.as_ref().map(identity), &self.watcher) {
            (None, _) => {
                self.watcher = None;
                let trouble = "the directory is gone: its last objects stay in force";
                self.contents.set_trouble(trouble.to_owned())
            }
            (Some(now), Some((watched, _))) if now == *watched => {
                if at == LookAt::Directory {
                    return None;
                }
                let changes = self.signals.take();
                changes.any() && self.contents.update(&changes)
            }
            (Some(now), _) => match self.begin(now) {
                Ok(()) => {
                    self.signals.take();
                    let untroubled = self.contents.set_trouble(String::new());
                    self.contents.update(&Changes::everything()) || untroubled
                }
                Err(error) => {
                    let trouble =
                        format!("cannot be watched, its last objects stay in force: {error}");
                    self.contents.set_trouble(trouble)
                }
            },
        };
        changed.then(|| self.contents.set())
    }
}
