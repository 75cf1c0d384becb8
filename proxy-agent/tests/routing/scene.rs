//! A scene: a file of manifests, and behind their last `---` the cases.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy_agent::compile::{Compiler, Options};
use proxy_agent::model::Snapshot;
use proxy_agent::objects::{Format, ObjectSet, Origin, parse};
use serde::Deserialize;
use serde_yaml_ng::Value;

/// A file of manifests and cases.
#[derive(Debug)]
pub(crate) struct Scene {
    /// The file's name.
    pub(crate) file: String,
    /// The manifests.
    pub(crate) manifests: String,
    /// What the manifests compile to.
    pub(crate) snapshot: Snapshot,
    /// The cases and what goes for all of them.
    pub(crate) sheet: Sheet,
    /// The line of each case, in order.
    lines: Vec<usize>,
}

/// The last document of a scene.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sheet {
    /// The client, `namespace/pod`, where a case names none.
    pub(crate) from: String,
    /// Every problem that the manifests have: a part of its text.
    #[serde(default)]
    pub(crate) problems: Vec<String>,
    /// The cases, by what they check.
    pub(crate) checks: Vec<Check>,
}

/// Cases that check the same words.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    /// The specification and its section.
    pub(crate) source: String,
    /// What it says, in short.
    pub(crate) says: String,
    /// Why these do not hold yet. They are listed, and must not hold.
    pub(crate) gap: Option<String>,
    /// Requests and what becomes of them.
    pub(crate) cases: Vec<Case>,
}

/// A request and what becomes of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    /// `METHOD URL`.
    pub(crate) ask: String,
    /// The client, `namespace/pod`.
    pub(crate) from: Option<String>,
    /// Headers of the request.
    #[serde(default)]
    pub(crate) with: BTreeMap<String, Several>,
    /// The destination that is taken, where there are several: else the first that has a share.
    pub(crate) via: Option<String>,
    /// Headers of the response as the application sends it.
    #[serde(default)]
    pub(crate) app: BTreeMap<String, Several>,
    /// What is expected, by fact.
    #[serde(flatten)]
    pub(crate) expected: BTreeMap<String, Value>,
}

/// A text, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Several {
    /// One.
    One(String),
    /// More than one.
    Many(Vec<String>),
}

impl Case {
    /// A request from `from` with these headers, of which nothing is expected.
    pub(crate) fn of(ask: String, from: &str, with: BTreeMap<String, Several>) -> Self {
        Self {
            ask,
            from: Some(from.to_owned()),
            with,
            via: None,
            app: BTreeMap::new(),
            expected: BTreeMap::new(),
        }
    }
}

impl Several {
    /// The texts.
    pub(crate) fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl Scene {
    /// Reads the scenes of a directory beside this file, by name.
    pub(crate) fn all(directory: &str) -> Vec<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/routing");
        let entries = fs::read_dir(here.join(directory)).expect("a directory of scenes");
        let entries = entries.map(|entry| entry.expect("a file").path());
        let is_scene = |path: &PathBuf| path.extension().is_some_and(|name| name == "yaml");
        let mut paths: Vec<PathBuf> = entries.filter(is_scene).collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let file = path.file_name().expect("a name").to_string_lossy();
        let text = fs::read_to_string(path).expect("a scene");
        let (manifests, sheet) = text.rsplit_once("\n---\n").expect("manifests and cases");
        let before = manifests.lines().count() + 1;
        let cases = sheet.lines().enumerate();
        let cases = cases.filter(|(_, line)| is_case(line));
        let lines: Vec<_> = cases.map(|(index, _)| before + index + 1).collect();
        let sheet: Sheet =
            serde_yaml_ng::from_str(sheet).unwrap_or_else(|error| panic!("{file}: {error}"));
        let written = sheet.checks.iter().map(|check| check.cases.len());
        assert_eq!(
            written.sum::<usize>(),
            lines.len(),
            "{file}: `ask` opens each case"
        );
        Self {
            snapshot: compile(manifests, &file),
            manifests: manifests.to_owned(),
            file: file.into_owned(),
            sheet,
            lines,
        }
    }

    /// Every case with the check that it belongs to and its line.
    pub(crate) fn cases(&self) -> impl Iterator<Item = (&Check, &Case, usize)> {
        let checks = self.sheet.checks.iter();
        let cases = checks.flat_map(|check| check.cases.iter().map(move |case| (check, case)));
        let lines = self.lines.iter();
        cases
            .zip(lines)
            .map(|((check, case), line)| (check, case, *line))
    }
}

/// Whether a case begins on a line.
fn is_case(line: &str) -> bool {
    let item = line.trim_start().strip_prefix("- ");
    item.is_some_and(|item| item.trim_start_matches('{').starts_with("ask: "))
}

/// Compiles manifests as `--source file:` would.
pub(crate) fn compile(manifests: &str, file: &str) -> Snapshot {
    Compiler::default().compile(&[set(manifests, file)], &Options::default())
}

/// The objects of a text as one source.
pub(crate) fn set(manifests: &str, file: &str) -> Arc<ObjectSet> {
    let parsed = parse(manifests, &Arc::from(file), Format::Yaml);
    let mut set = ObjectSet::unsynced(file.into(), Origin::Files);
    set.objects = parsed.objects.into_iter().map(Arc::new).collect();
    set.problems = parsed.problems;
    Arc::new(set)
}
