//! Manifests checked offline, by the reader and the compiler that serve.

use std::path::PathBuf;
use std::sync::Arc;

use crate::compile::{Compiler, Options};
use crate::model::{Problem, Severity};
use crate::source::file;

/// What came of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Objects that were read, those of unknown kinds among them.
    pub objects: usize,
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

/// Checks files and directories together, as one configuration.
pub fn validate(paths: &[PathBuf]) -> Report {
    let sets: Vec<_> = paths
        .iter()
        .map(|path| Arc::new(file::read(path)))
        .collect();
    let snapshot = Compiler::default().compile(&sets, &Options::default());
    let mut problems: Vec<Problem> = snapshot
        .problems
        .iter()
        .map(|problem| Problem::clone(problem))
        .collect();
    problems.sort_by(|one, other| one.place.cmp(&other.place));
    Report {
        objects: snapshot.objects + snapshot.unknown_kinds.len(),
        problems,
    }
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
    fn an_object_that_stands_in_two_paths_is_an_error() {
        let report = examples(&[
            "source-document/kubernetes-clusterip.yaml",
            "source-document/kubernetes-loadbalancer.yaml",
        ]);
        assert!(report.has_errors());
        assert_eq!(report.problems.len(), 1);
    }
}
