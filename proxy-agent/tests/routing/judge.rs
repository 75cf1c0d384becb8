//! A case against what the product says: every difference in words.

use std::fmt::Write;

use proxy_agent::model::Problem;
use serde_yaml_ng::Value;

use crate::answer::{Asked, Facts};
use crate::scene::{Case, Scene};

/// Facts that a case may expect, beside `sent` and `answered` (headers), `does` (lines of
/// `explain`) and `never` (words in none of them).
const FACTS: [&str; 12] = [
    "verdict",
    "rule",
    "to",
    "endpoints",
    "status",
    "reason",
    "location",
    "body",
    "timeout",
    "each",
    "target",
    "host",
];

/// What came of the cases of some scenes.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Cases that hold.
    pub(crate) held: usize,
    /// What does not, one entry for each case or scene.
    pub(crate) failed: Vec<String>,
    /// Cases that do not hold and are known not to.
    pub(crate) gaps: Vec<String>,
}

/// Judges every case of every scene.
pub(crate) fn judge(scenes: &[Scene]) -> Tally {
    let mut tally = Tally::default();
    for scene in scenes {
        tally.failed.extend(problems(scene));
        for (check, case, line) in scene.cases() {
            let differences = differences(scene, case);
            let mut entry = format!("{}:{line}: {}\n", scene.file, case.ask);
            for difference in &differences {
                writeln!(entry, "    {difference}").expect("a string");
            }
            writeln!(entry, "    by {}: {}", check.source, check.says).expect("a string");
            match (&check.gap, differences.is_empty()) {
                (None, true) => tally.held += 1,
                (None, false) => tally.failed.push(entry),
                (Some(gap), false) => tally.gaps.push(format!("{entry}    known: {gap}\n")),
                (Some(_), true) => tally
                    .failed
                    .push(format!("{entry}    holds, and is no gap\n")),
            }
        }
    }
    tally
}

/// Problems of the manifests that the scene does not name, and the other way round.
fn problems(scene: &Scene) -> Vec<String> {
    let found: Vec<String> = scene
        .snapshot
        .problems
        .iter()
        .map(|one| Problem::to_string(one))
        .collect();
    let expected = &scene.sheet.problems;
    let unexpected = found
        .iter()
        .filter(|one| !expected.iter().any(|part| one.contains(part.as_str())))
        .map(|one| format!("{}: an unexpected problem: {one}\n", scene.file));
    let missing = expected
        .iter()
        .filter(|part| !found.iter().any(|one| one.contains(part.as_str())))
        .map(|part| format!("{}: no problem has `{part}`\n", scene.file));
    unexpected.chain(missing).collect()
}

fn differences(scene: &Scene, case: &Case) -> Vec<String> {
    let mut asked = Asked::new(&scene.snapshot, case, &scene.sheet.from);
    let facts = asked.facts();
    let mut differences = Vec::new();
    if case.expected.is_empty() {
        differences.push("expects nothing".to_owned());
    }
    for (name, value) in &case.expected {
        match (name.as_str(), value) {
            ("sent" | "answered", Value::Mapping(headers)) => {
                for (header, value) in headers {
                    let header = format!("{name} {}", text(header).to_lowercase());
                    differences.extend(difference(&header, value, &facts));
                }
            }
            ("does", Value::Sequence(lines)) => {
                let found = asked.explained().action;
                let missing = lines.iter().map(text).filter(|line| !found.contains(line));
                differences
                    .extend(missing.map(|line| format!("does not `{line}`, but: {found:?}")));
            }
            ("never", Value::Sequence(words)) => {
                let found = asked.explained().action;
                let unwanted = words.iter().map(text);
                let unwanted = unwanted.filter(|word| found.iter().any(|line| line.contains(word)));
                differences.extend(unwanted.map(|word| format!("`{word}` is in {found:?}")));
            }
            (known, _) if FACTS.contains(&known) => {
                differences.extend(difference(name, value, &facts));
            }
            (other, _) => differences.push(format!("`{other}` is no fact")),
        }
    }
    differences.extend(contradictions(&asked, &facts));
    differences
}

fn difference(name: &str, expected: &Value, facts: &Facts) -> Option<String> {
    let expected = text(expected);
    let found = facts.get(name).map_or("none", String::as_str);
    (found != expected).then(|| format!("{name}: expected `{expected}`, found `{found}`"))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Sequence(items) => items.iter().map(text).collect::<Vec<_>>().join(" | "),
        Value::Mapping(_) | Value::Tagged(_) => panic!("a text expected: {value:?}"),
    }
}

/// Where `explain` says something else than the router that serves does.
fn contradictions(asked: &Asked<'_>, facts: &Facts) -> Vec<String> {
    // It takes URLs: what becomes of other connections is shown in `status`.
    if asked.is_stream() {
        return Vec::new();
    }
    let explained = asked.explained();
    let fact = |name: &str| facts.get(name).map_or("", String::as_str);
    let mut contradictions = Vec::new();
    let rule = match fact("rule") {
        "" => String::new(),
        "none" => "no rule of ".to_owned(),
        "implicit" => "implicit".to_owned(),
        rule => rule
            .split_once(' ')
            .expect("an object and a field")
            .1
            .to_owned(),
    };
    if !explained.route.contains(&rule) {
        contradictions.push(format!("explain names rule `{}`", explained.route));
    }
    // Where a destination redirects, its share is told, not where to.
    let of_destination = fact("to").contains("redirect");
    let location = Some(fact("location"))
        .filter(|_| !of_destination)
        .unwrap_or_default();
    if !explained.action.iter().any(|line| line.ends_with(location)) && !location.is_empty() {
        contradictions.push(format!("explain says {:?}", explained.action));
    }
    // Whether a request is a preflight is not asked: what becomes of those that are none is told.
    // A path without a normal form is refused before there is anything to compare.
    if matches!(fact("status"), "204" | "400") {
        return contradictions;
    }
    let names = explained.clusters.iter().map(|one| match &*one.name {
        "a redirect" => "redirect",
        name if name.starts_with("invalid reference") => "invalid",
        name => name,
    });
    let names: Vec<_> = names.collect();
    let to = fact("to")
        .split(", ")
        .map(|one| one.split('*').next().unwrap_or_default());
    let to: Vec<_> = to.filter(|name| !name.is_empty()).collect();
    if names != to {
        contradictions.push(format!("explain goes to {names:?}, not {to:?}"));
    }
    contradictions
}
