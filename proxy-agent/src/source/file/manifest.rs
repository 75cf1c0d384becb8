//! One manifest: read within bounds, and what of its last good version stays in force.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::model::{ObjectId, Place, Problem, Severity};
use crate::objects::{Format, Located, Parsed, Part, parse};

/// A manifest's size at most, bytes. etcd takes 1.5 MiB an object; a file holds several.
const MAX_BYTES: u64 = 8 << 20;

/// Whether a name is that of a manifest.
pub(super) fn is_manifest(name: &OsStr) -> bool {
    let hidden = name.as_encoded_bytes().starts_with(b".");
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// What tells that a file has changed: device, inode, size, times of change in nanoseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp([i128; 5]);

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        let nanoseconds = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self([
            meta.dev().into(),
            meta.ino().into(),
            meta.size().into(),
            nanoseconds(meta.mtime(), meta.mtime_nsec()),
            nanoseconds(meta.ctime(), meta.ctime_nsec()),
        ])
    }
}

/// A file and what is in force of it.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    stamp: Option<Stamp>,
    /// Hash of the text that was accepted last.
    text: Option<u64>,
    /// The file has another name as well, and may change by that.
    other_name: bool,
    /// Objects in force.
    pub objects: Part,
    /// What is wrong with its present text.
    pub problems: Vec<Problem>,
}

/// What came of looking at a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// It is as it was.
    Same,
    /// It was read again.
    Changed,
    /// It is not there, or no file.
    Gone,
}

impl Manifest {
    /// Has the next look read the file whatever its stamp says: times of change are only as fine
    /// as the kernel's tick on older kernels.
    pub(super) fn doubt(&mut self) {
        self.stamp = None;
    }

    /// Whether the file may be another than was read without a word of its name: it has another one as
    /// well, or could not be read.
    pub(super) const fn is_uncertain(&self) -> bool {
        self.other_name || self.stamp.is_none()
    }

    /// Reads the file again if it has changed.
    pub(super) fn look(&mut self, path: &Path) -> Look {
        let meta = match self.metadata(path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => return Look::Gone,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Look::Gone,
            Err(error) => {
                self.stamp = None;
                return self.refuse(path, format!("cannot be read: {error}"));
            }
        };
        let stamp = Stamp::of(&meta);
        if self.stamp == Some(stamp) {
            return Look::Same;
        }
        self.stamp = Some(stamp);
        if meta.len() > MAX_BYTES {
            return self.refuse(path, too_large(meta.len()));
        }
        match read(path) {
            Ok(Ok(text)) => self.accept(path, &text),
            Ok(Err(reason)) => self.refuse(path, reason),
            Err(error) => {
                self.stamp = None;
                self.refuse(path, format!("cannot be read: {error}"))
            }
        }
    }

    fn metadata(&mut self, path: &Path) -> io::Result<fs::Metadata> {
        let own = fs::symlink_metadata(path)?;
        self.other_name = own.is_symlink() || own.nlink() > 1;
        if own.is_symlink() {
            return fs::metadata(path);
        }
        Ok(own)
    }

    /// The text as a whole is of no use: what was in force stays.
    fn refuse(&mut self, path: &Path, reason: String) -> Look {
        let reason = if self.objects.is_empty() {
            reason
        } else {
            format!("{reason}; what it held before stays in force")
        };
        let problems = vec![problem(path, Severity::Error, reason)];
        if self.problems == problems {
            return Look::Same;
        }
        self.text = None;
        self.problems = problems;
        Look::Changed
    }

    fn accept(&mut self, path: &Path, text: &str) -> Look {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(text);
        if self.text.replace(hash) == Some(hash) {
            return Look::Same;
        }
        let source = Arc::from(path.to_string_lossy());
        let json = path.extension() == Some(OsStr::new("json"));
        let format = if json { Format::Json } else { Format::Yaml };
        let mut parsed = parse(text, &source, format);
        let kept = self.kept(&parsed);
        for problem in &mut parsed.problems {
            let of_object = |id: &ObjectId| kept.iter().any(|one| one.id == *id);
            let (stays, what) = match &problem.object {
                Some(id) => (of_object(id), "its last good version stays"),
                None => (
                    !kept.is_empty(),
                    "objects of the file that are missing now stay",
                ),
            };
            if stays && problem.severity == Severity::Error {
                problem.reason = format!("{}; {what} in force", problem.reason);
            }
        }
        let empty = parsed.objects.is_empty() && parsed.rejected.is_empty();
        if empty && !parsed.lists_nothing {
            let reason = "holds no object".to_owned();
            parsed
                .problems
                .push(problem(path, Severity::Warning, reason));
        }
        self.objects = parsed
            .objects
            .into_iter()
            .map(Arc::new)
            .chain(kept)
            .collect();
        self.problems = parsed.problems;
        Look::Changed
    }

    /// Objects of the last good version that the new text lost to a document that cannot be read.
    /// Where that document does not tell which object it is, it may be any that is missing.
    fn kept(&self, parsed: &Parsed) -> Vec<Arc<Located>> {
        let any = parsed.rejected.iter().any(Option::is_none);
        let lost = |id: &ObjectId| any || parsed.rejected.iter().flatten().any(|lost| lost == id);
        let there = |id: &ObjectId| parsed.objects.iter().any(|one| one.id == *id);
        let before = self.objects.iter();
        before
            .filter(|one| lost(&one.id) && !there(&one.id))
            .cloned()
            .collect()
    }
}

/// The text of a file, or why it is none.
fn read(path: &Path) -> io::Result<Result<String, String>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    let length = bytes.len() as u64;
    if length > MAX_BYTES {
        return Ok(Err(too_large(length)));
    }
    Ok(String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is not UTF-8: byte {at} is not part of a character")
    }))
}

fn too_large(bytes: u64) -> String {
    format!("{bytes} bytes; accepted: up to {MAX_BYTES}")
}

/// A problem of a file as a whole.
pub(super) fn problem(path: &Path, severity: Severity, reason: String) -> Problem {
    Problem {
        severity,
        place: Some(Place {
            source: path.to_string_lossy().into(),
            line: 0,
        }),
        object: None,
        field: String::new(),
        reason,
    }
}
