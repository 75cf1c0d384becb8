//! inotify's events, gathered until they are acted on.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, Event, EventKind, ModifyKind, RenameMode};
use tokio::sync::Notify;

use super::manifest::is_manifest;

/// Names gathered at most: beyond it the whole directory is looked through.
const MAX_NAMES: usize = 4_096;

/// What has happened since it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Files to look at.
    pub files: BTreeSet<OsString>,
    /// Files that a writer holds open: half of them may be missing.
    pub writing: BTreeSet<OsString>,
    /// Every file is to be looked at.
    pub all: bool,
    /// A file that is no manifest was written, or went: every file that may be the same, or lead there,
    /// is to be looked at.
    pub other: bool,
    /// A name has gone: perhaps only until its successor is there.
    pub lost: bool,
}

impl Changes {
    /// The change that a first look is.
    pub(super) fn everything() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    /// Whether there is anything to look at.
    pub(super) fn any(&self) -> bool {
        self.all || self.other || !self.files.is_empty()
    }
}

/// Gathers changes from the watcher's thread for the reader.
#[derive(Debug, Default)]
pub(super) struct Signals {
    pending: Mutex<Changes>,
    arrived: Notify,
}

impl Signals {
    /// Returns when something has changed. Cancel-safe.
    pub(super) async fn wait(&self) {
        self.arrived.notified().await;
    }

    /// The changes until now. Files that are being written stay noted.
    pub(super) fn take(&self) -> Changes {
        let mut pending = self.lock();
        let writing = pending.writing.clone();
        let mut taken = std::mem::take(&mut *pending);
        pending.writing = writing;
        taken.files.retain(|name| !taken.writing.contains(name));
        taken
    }

    /// Whether a name has gone since changes were last taken.
    pub(super) fn lost(&self) -> bool {
        self.lock().lost
    }

    /// Notes an event. Our own reading causes some; they are passed over.
    pub(super) fn add(&self, event: notify::Result<Event>) {
        let mut pending = self.lock();
        match event {
            Ok(event) => {
                if event.need_rescan() {
                    pending.miss();
                }
                for path in &event.paths {
                    pending.note(event.kind, path);
                }
            }
            Err(_) => pending.miss(),
        }
        if pending.any() {
            self.arrived.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changes {
    /// Events were lost, and which is not known: not even that a file is no longer being written.
    fn miss(&mut self) {
        self.all = true;
        self.writing.clear();
    }

    fn note(&mut self, kind: EventKind, path: &Path) {
        let Some(name) = path.file_name() else {
            return;
        };
        self.lost |= match kind {
            EventKind::Remove(_) => true,
            // A file that was written under a hidden name is renamed into place: nothing was lost.
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => is_manifest(name),
            EventKind::Any
            | EventKind::Access(_)
            | EventKind::Create(_)
            | EventKind::Modify(_)
            | EventKind::Other => false,
        };
        match kind {
            EventKind::Modify(ModifyKind::Data(_)) => self.begin(name),
            EventKind::Create(CreateKind::File) if is_being_made(path) => self.begin(name),
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::To)) => {
                self.writing.remove(name);
                self.touch(name, path);
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => self.touch(name, path),
            EventKind::Any | EventKind::Access(_) | EventKind::Modify(_) | EventKind::Other => {}
        }
    }

    fn begin(&mut self, name: &OsStr) {
        if is_manifest(name) {
            self.writing.insert(name.to_owned());
        }
    }

    /// A manifest is looked at; anything else with a name of its own, like the `..data` link of a
    /// ConfigMap volume, may be what manifests point through.
    fn touch(&mut self, name: &OsStr, path: &Path) {
        if is_manifest(name) && self.files.len() < MAX_NAMES {
            self.files.insert(name.to_owned());
        } else if is_manifest(name) || leads_elsewhere(path) {
            self.all = true;
        } else {
            self.other = true;
        }
    }
}

/// Whether a name is anything but a file that has no other name. One that has gone is not.
fn leads_elsewhere(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file() || meta.nlink() > 1)
}

/// Whether a new name is a file that its maker has yet to write, not a link to a whole one, whose
/// former name may have gone already.
fn is_being_made(path: &Path) -> bool {
    let own = fs::symlink_metadata(path);
    own.is_ok_and(|meta| meta.is_file() && meta.nlink() == 1 && meta.len() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_written_is_read_all_the_same_when_events_were_lost() {
        let signals = Signals::default();
        let data = EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Any));
        let event = Event::new(data).add_path(Path::new("/manifests/web.yaml").to_owned());
        signals.add(Ok(event));
        assert_eq!(signals.take().writing.len(), 1);
        signals.add(Err(notify::Error::generic("lost")));
        let changes = signals.take();
        assert!(changes.all && changes.writing.is_empty());
    }

    #[test]
    fn a_whole_file_that_is_linked_in_is_not_being_made() {
        let name = format!("proxy-agent-signals-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made = ["", "kind: Service"].map(|text| {
            fs::write(&path, text).unwrap();
            is_being_made(&path)
        });
        fs::remove_file(&path).unwrap();
        assert_eq!(made, [true, false]);
    }

    #[test]
    fn a_manifest_that_is_moved_away_is_lost_and_a_hidden_file_that_is_moved_into_place_is_not() {
        for (name, lost) in [("web.yaml", true), (".web.yaml.partial", false)] {
            let signals = Signals::default();
            let from = EventKind::Modify(ModifyKind::Name(RenameMode::From));
            signals.add(Ok(
                Event::new(from).add_path(Path::new("/manifests").join(name))
            ));
            assert_eq!(signals.lost(), lost, "{name}");
        }
    }
}
