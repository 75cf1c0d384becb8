//! Every value of the chart does something: `ci/every-value.yaml` gives each one another value than
//! its default, and that changes what is rendered, either alone or beside all the others (what
//! belongs to a part that is off by default has an effect only when the part is on).

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_yaml_ng::{Mapping, Value};

use super::{CHART, render};
use crate::workspace::{root, target};

/// A way to a value, as keys.
type Path = Vec<String>;

/// Tries them one by one and returns how many there are.
pub(super) fn all_have_an_effect() -> Result<usize> {
    let defaults = read("values.yaml")?;
    let every = read("ci/every-value.yaml")?;
    let (none, all) = (render_with(&defaults)?, render_with(&every)?);
    let mut paths = Vec::new();
    leaves(&defaults, &mut Path::new(), &mut paths);
    for path in &paths {
        let name = path.join(".");
        let value = find(&every, path);
        let value = value.with_context(|| format!("ci/every-value.yaml lacks {name}"))?;
        let default = find(&defaults, path).context("a leaf of the defaults")?;
        ensure!(value != default, "ci/every-value.yaml: {name} is default");
        let alone = render_with(&with(&defaults, path, value)?)?;
        let taken_back = render_with(&with(&every, path, default)?)?;
        let has_effect = alone != none || taken_back != all;
        ensure!(has_effect, "the value {name} changes nothing");
    }
    Ok(paths.len())
}

/// `values` with another one at `path`, which must be there.
fn with(values: &Value, path: &Path, value: &Value) -> Result<Value> {
    let mut values = values.clone();
    let place = find_mut(&mut values, path).context("a value that is there")?;
    *place = value.clone();
    Ok(values)
}

fn read(file: &str) -> Result<Value> {
    let path = root().join(CHART).join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_yaml_ng::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

fn render_with(values: &Value) -> Result<String> {
    // As JSON, which is YAML in which `off` and `yes` stay strings.
    let path = target("chart-values.json");
    fs::write(&path, serde_json::to_string(values)?).context("write values")?;
    render(Some(&path))
}

/// The values that the chart documents: what lies below an empty or free-form map is the user's.
fn leaves(value: &Value, at: &mut Path, found: &mut Vec<Path>) {
    let Value::Mapping(map) = value else {
        return found.push(at.clone());
    };
    if map.is_empty() || is_free_form(at) {
        return found.push(at.clone());
    }
    for (key, value) in map {
        at.push(key.as_str().unwrap_or_default().to_owned());
        leaves(value, at, found);
        at.pop();
    }
}

/// Maps that go into a manifest as they are.
fn is_free_form(path: &Path) -> bool {
    let last = path.last().map(String::as_str);
    ["resources", "nodeSelector", "seccompProfile", "labels"]
        .iter()
        .any(|name| last == Some(name))
}

fn find<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

fn find_mut<'a>(value: &'a mut Value, path: &Path) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, key| {
        value
            .as_mapping_mut()
            .and_then(|map: &mut Mapping| map.get_mut(key.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_found_down_to_what_is_the_users() {
        let values = "{a: {b: 1, c: null}, labels: {x: y}, d: [1], e: {}}";
        let values = serde_yaml_ng::from_str(values).unwrap();
        let mut found = Vec::new();
        leaves(&values, &mut Path::new(), &mut found);
        let found: Vec<_> = found.iter().map(|path| path.join(".")).collect();
        assert_eq!(found, ["a.b", "a.c", "labels", "d", "e"]);
    }
}
