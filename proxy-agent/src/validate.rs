//! Manifests checked offline, by the reader and the compiler that serve.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::compile::{Compiler, Options};
use crate::model::{Place, Problem, Severity};
use crate::source::file;

/// What came of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Objects that were read, those of unknown kinds among them.
    pub objects: usize,
    /// How many objects there are of each kind that is not read, as in `Deployment.apps`.
    pub not_read: BTreeMap<String, usize>,
    /// What is wrong, sorted by place.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether anything would not be in effect.
    pub fn has_errors(&self) -> bool {
        let mut problems = self.problems.iter();
        problems.any(|problem| problem.severity == Severity::Error)
    }
}

/// Checks files and directories, with what is below them, together as one configuration.
pub fn validate(paths: &[PathBuf]) -> Report {
    let mut known = BTreeSet::new();
    let below = paths.iter().flat_map(|path| directories(path));
    // However often and by whatever name a path is given, it is one.
    let below = below.filter(|path| known.insert(fs::canonicalize(path).unwrap_or(path.clone())));
    let sets: Vec<_> = below.map(|path| Arc::new(file::read(&path))).collect();
    let snapshot = Compiler::default().compile(&sets, &Options::default());
    let mut problems: Vec<Problem> = snapshot
        .problems
        .iter()
        .map(|problem| Problem::clone(problem))
        .collect();
    let objects = snapshot.objects + snapshot.unknown_kinds.len();
    if objects == 0 && problems.is_empty() {
        problems.extend(paths.iter().map(|path| nothing(path)));
    }
    problems.sort_by(|one, other| one.place.cmp(&other.place));
    let mut not_read = BTreeMap::new();
    for (id, _) in snapshot.unknown_kinds.iter() {
        let kind = match &*id.group {
            "" => id.kind.to_string(),
            group => format!("{}.{group}", id.kind),
        };
        *not_read.entry(kind).or_default() += 1;
    }
    Report {
        objects,
        not_read,
        problems,
    }
}

/// A check of nothing is hardly what was meant.
fn nothing(path: &Path) -> Problem {
    Problem {
        severity: Severity::Error,
        place: Some(Place {
            source: path.to_string_lossy().into(),
            line: 0,
        }),
        object: None,
        field: String::new(),
        reason: "no objects; accepted: files, and directories of files, that end with .yaml, .yml \
                 or .json"
            .to_owned(),
    }
}

/// A path and the directories below it, in order. Hidden ones and links are left out, so that it
/// ends; what cannot be listed is named when it is read.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        let below = entries.filter(|entry| {
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir())
        });
        let mut below: Vec<_> = below.map(|entry| entry.path()).collect();
        below.sort();
        open.extend(below.into_iter().rev());
        found.push(path);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(names: &[&str]) -> Report {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let paths: Vec<_> = names.iter().map(|name| root.join(name)).collect();
        validate(&paths)
    }

    #[test]
    fn the_source_documents_examples_are_valid() {
        for (names, objects) in [
            (&["source-document/kubernetes-clusterip.yaml"][..], 1),
            (&["source-document/kubernetes-loadbalancer.yaml"], 1),
            (&["source-document/istio.yaml"], 2),
            (&["source-document/linkerd.yaml"], 2),
            (
                &[
                    "source-document/linkerd.yaml",
                    "source-document/kubernetes-clusterip.yaml",
                ],
                3,
            ),
        ] {
            let report = examples(names);
            assert_eq!(
                (report.objects, report.has_errors()),
                (objects, false),
                "{names:?}: {report:?}"
            );
        }
    }

    #[test]
    fn the_demo_is_valid_to_the_last_warning() {
        let report = examples(&["demo"]);
        assert_eq!(report.problems, []);
        assert!(report.objects >= 4);
    }

    #[test]
    fn directories_are_read_with_what_is_below_them() {
        let root =
            std::env::temp_dir().join(format!("proxy-agent-validate-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        };
        let pod = |name: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n");
        write("a.yaml", &pod("a"));
        write("sub/deeper/b.yml", &pod("b"));
        write(
            "sub/job.yaml",
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n",
        );
        write("sub/.git/c.yaml", "no object");
        write("sub/notes.txt", "no manifest");
        let report = validate(std::slice::from_ref(&root));
        fs::remove_dir_all(&root).expect("removed");
        assert_eq!(report.problems, []);
        assert_eq!(report.objects, 3);
        assert_eq!(report.not_read, [("Job.batch".to_owned(), 1)].into());
    }

    #[test]
    fn a_path_without_objects_is_an_error() {
        let root = std::env::temp_dir().join(format!("proxy-agent-empty-{}", std::process::id()));
        fs::create_dir_all(&root).expect("a directory");
        let empty = validate(std::slice::from_ref(&root));
        fs::write(
            root.join("a.yaml"),
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
        )
        .expect("a file");
        let full = validate(std::slice::from_ref(&root));
        fs::remove_dir_all(&root).expect("removed");
        assert!(empty.has_errors());
        assert!(empty.problems[0].reason.starts_with("no objects"));
        assert_eq!((full.objects, full.has_errors()), (1, false), "the control");
    }

    #[test]
    fn a_path_that_is_given_twice_is_read_once() {
        let once = examples(&["demo", "source-document/istio.yaml"]);
        let twice = examples(&[
            "demo",
            "demo/../demo",
            "source-document/istio.yaml",
            "demo/../source-document/istio.yaml",
        ]);
        assert_eq!(twice, once);
    }

    #[test]
    fn an_object_that_stands_in_two_paths_is_an_error() {
        let report = examples(&[
            "source-document/kubernetes-clusterip.yaml",
            "source-document/kubernetes-loadbalancer.yaml",
        ]);
        assert!(report.has_errors());
        assert_eq!(report.problems.len(), 1);
    }
}
