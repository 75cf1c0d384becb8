//! All manifests of a directory, and the set of objects that they come to.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::manifest::{Look, Manifest, is_manifest, problem};
use super::signals::Changes;
use crate::model::{ObjectId, Place, Problem, Severity};
use crate::objects::{ObjectSet, Objects, Origin, Part};

/// Files read at most: the first by name.
const MAX_FILES: usize = 1_000;
/// Objects in force at most: the first by file name and position.
const MAX_OBJECTS: usize = 100_000;

/// A directory's manifests, or a single one.
#[derive(Debug)]
pub(super) struct Contents {
    path: PathBuf,
    /// By file name; the name of a single file read for itself is empty.
    manifests: BTreeMap<OsString, Manifest>,
    known: Known,
    /// A link leads to no file: one may come to be there.
    dangling: bool,
    trouble: String,
    /// What is wrong with the directory's listing.
    listing: Option<Problem>,
    changed: SystemTime,
}

impl Contents {
    /// A directory that has not been looked at.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            manifests: BTreeMap::new(),
            known: Known::default(),
            dangling: false,
            trouble: String::new(),
            listing: None,
            changed: SystemTime::now(),
        }
    }

    /// A file or a directory, read once.
    pub(super) fn once(path: &Path) -> Self {
        let mut contents = Self::new(path);
        if path.is_dir() {
            contents.update(&Changes::everything());
            return contents;
        }
        let mut manifest = Manifest::default();
        if manifest.look(path) == Look::Gone {
            let reason = "no such file or directory".to_owned();
            contents.listing = Some(problem(path, Severity::Error, reason));
        }
        contents.known.exchange(&Part::default(), &manifest.objects);
        contents.manifests.insert(OsString::new(), manifest);
        contents
    }

    /// The directory's path as given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Says what ails the directory as a whole; empty for nothing. Returns whether that is news.
    pub(super) fn set_trouble(&mut self, trouble: String) -> bool {
        let news = self.trouble != trouble;
        self.trouble = trouble;
        self.stamp(news)
    }

    /// Looks at what has changed. Returns whether anything came of it.
    pub(super) fn update(&mut self, changes: &Changes) -> bool {
        let new = |name: &OsString| !self.manifests.contains_key(name);
        let full = self.manifests.len() >= MAX_FILES && changes.files.iter().any(new);
        let all = changes.all || changes.other && self.is_uncertain();
        let news = if all || full || self.listing.is_some() {
            self.look_at_all(changes)
        } else {
            let mut news = false;
            for name in &changes.files {
                if let Some(manifest) = self.manifests.get_mut(name) {
                    manifest.doubt();
                }
                news |= self.look(name);
            }
            news
        };
        self.stamp(news)
    }

    /// Whether a manifest may change without a word of its own name.
    fn is_uncertain(&self) -> bool {
        self.dangling || self.manifests.values().any(Manifest::is_uncertain)
    }

    fn stamp(&mut self, news: bool) -> bool {
        if news {
            self.changed = SystemTime::now();
        }
        news
    }

    fn look(&mut self, name: &OsString) -> bool {
        let manifest = self.manifests.entry(name.clone()).or_default();
        let before = Part::clone(&manifest.objects);
        let path = self.path.join(name);
        match manifest.look(&path) {
            Look::Same => false,
            Look::Changed => {
                self.known.exchange(&before, &manifest.objects);
                true
            }
            Look::Gone => {
                self.dangling |= path.is_symlink();
                self.known.exchange(&before, &Part::default());
                let gone = self.manifests.remove(name);
                !before.is_empty() || gone.is_some_and(|gone| !gone.problems.is_empty())
            }
        }
    }

    fn look_at_all(&mut self, changes: &Changes) -> bool {
        let before = self.listing.take();
        self.dangling = false;
        let mut names = match self.names() {
            Ok(names) => names,
            Err(error) => {
                let reason =
                    format!("cannot be listed: {error}; what it held before stays in force");
                self.listing = Some(problem(&self.path, Severity::Error, reason));
                return before != self.listing;
            }
        };
        if let Some(first_left_out) = names.iter().nth(MAX_FILES).cloned() {
            let reason = format!(
                "holds {} manifests; accepted: {MAX_FILES}, so `{}` and those after it are not read",
                names.len(),
                first_left_out.to_string_lossy()
            );
            self.listing = Some(problem(&self.path, Severity::Error, reason));
            names.split_off(&first_left_out);
        }
        let known = self.manifests.len();
        self.manifests.retain(|name, manifest| {
            let stays = names.contains(name);
            if !stays {
                self.known.exchange(&manifest.objects, &Part::default());
            }
            stays
        });
        let mut news = before != self.listing || known != self.manifests.len();
        for name in names.difference(&changes.writing) {
            news |= self.look(name);
        }
        news
    }

    fn names(&self) -> io::Result<BTreeSet<OsString>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if is_manifest(&name) {
                names.insert(name);
            }
        }
        Ok(names)
    }

    /// The objects in force: of duplicates the first by file name and position.
    pub(super) fn set(&self) -> ObjectSet {
        let mut set = ObjectSet {
            source: format!("file:{}", self.path.display()).into(),
            origin: Origin::Files,
            synced: true,
            trouble: self.trouble.clone(),
            changed: self.changed,
            objects: Objects::default(),
            problems: self.listing.iter().cloned().collect(),
            kinds: Vec::new(),
        };
        if self.known.is_plain() {
            let parts = self.manifests.values();
            let parts = parts.map(|manifest| Part::clone(&manifest.objects));
            set.objects = Objects::new(parts.collect());
            let problems = self.manifests.values().flat_map(|one| &one.problems);
            set.problems.extend(problems.cloned());
            return set;
        }
        self.sort_out(&mut set);
        set
    }

    /// Where some objects stand at two places, or there are too many.
    fn sort_out(&self, set: &mut ObjectSet) {
        let mut objects = Vec::new();
        let mut first: HashMap<&ObjectId, &Place> = HashMap::new();
        let mut left_out = 0_usize;
        for manifest in self.manifests.values() {
            set.problems.extend(manifest.problems.iter().cloned());
            for located in &*manifest.objects {
                if let Some(place) = first.get(&located.id) {
                    set.problems.push(Problem {
                        severity: Severity::Error,
                        place: Some(located.place.clone()),
                        object: Some(located.id.clone()),
                        field: String::new(),
                        reason: format!("stands at {place} too, which is in force"),
                    });
                } else if objects.len() < MAX_OBJECTS {
                    first.insert(&located.id, &located.place);
                    objects.push(Arc::clone(located));
                } else {
                    left_out += 1;
                }
            }
        }
        set.objects = objects.into_iter().collect();
        if left_out > 0 {
            let reason = format!("{left_out} objects are not read; accepted: {MAX_OBJECTS}");
            set.problems
                .push(problem(&self.path, Severity::Error, reason));
        }
    }
}

/// Which objects all manifests have together, so that a change of one file need not look at the others'.
#[derive(Debug, Default)]
struct Known {
    places: HashMap<ObjectId, usize>,
    objects: usize,
}

impl Known {
    /// One file's objects are others than before.
    fn exchange(&mut self, before: &Part, after: &Part) {
        self.objects = self.objects + after.len() - before.len();
        for located in &**after {
            *self.places.entry(located.id.clone()).or_default() += 1;
        }
        for located in &**before {
            if let Entry::Occupied(mut places) = self.places.entry(located.id.clone()) {
                *places.get_mut() -= 1;
                if *places.get() == 0 {
                    places.remove();
                }
            }
        }
    }

    /// Whether each object stands at one place alone, and all of them are read.
    fn is_plain(&self) -> bool {
        self.places.len() == self.objects && self.objects <= MAX_OBJECTS
    }
}
