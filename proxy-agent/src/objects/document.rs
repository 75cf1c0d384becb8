//! Text to documents to untyped values, within bounds.
//!
//! A file is split before it is parsed, so that a malformed document takes no other with it.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Values in one document at most: ten thousand pods in one `List` stay far below it. A document
/// that exceeds this repeats itself through anchors.
const MAX_VALUES: usize = 1_000_000;

/// One document of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Document<'a> {
    /// Its text.
    pub text: &'a str,
    /// Lines of the file before `text`.
    pub lines_before: u32,
}

impl Document<'_> {
    /// Line of the first content, from 1.
    pub(super) fn line(&self) -> u32 {
        let blank = self.text.lines().take_while(|line| is_blank(line)).count();
        self.lines_before
            .saturating_add(u32::try_from(blank).unwrap_or(u32::MAX))
            .saturating_add(1)
    }

    /// Whether it holds nothing but comments.
    pub(super) fn is_empty(&self) -> bool {
        self.text.lines().all(is_blank)
    }

    /// Parses the document as YAML.
    ///
    /// # Errors
    /// A line for the user, with line numbers of the whole file.
    pub(super) fn yaml(&self) -> Result<Value, String> {
        yaml(self.text).or_else(|_| {
            // Errors are rare: parsed once more with the file's line numbers.
            let before = usize::try_from(self.lines_before).unwrap_or(0);
            let hint = if self.text.contains("{{") {
                "; is it a template? Render it first"
            } else {
                ""
            };
            yaml(&("\n".repeat(before) + self.text)).map_err(|error| format!("{error}{hint}"))
        })
    }

    /// Parses the document as JSON.
    ///
    /// # Errors
    /// A line for the user.
    pub(super) fn json(&self) -> Result<Value, String> {
        let left = Cell::new(MAX_VALUES);
        let mut from = serde_json::Deserializer::from_str(self.text);
        let value = Bounded(&left)
            .deserialize(&mut from)
            .map_err(|error| error.to_string())?;
        from.end().map_err(|error| error.to_string())?;
        Ok(value)
    }
}

fn yaml(text: &str) -> Result<Value, serde_yaml_ng::Error> {
    let left = Cell::new(MAX_VALUES);
    Bounded(&left).deserialize(serde_yaml_ng::Deserializer::from_str(text))
}

fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Splits a YAML file at its `---` lines (YAML 1.2.2, section 9.1.2: a marker at the line's
/// beginning ends any document, even in the middle of a block scalar).
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut offset) = (0, 0);
    let (mut lines_before, mut line) = (0, 0);
    for raw in text.split_inclusive('\n') {
        if let Some(rest) = after_marker(raw) {
            documents.push(Document {
                text: &text[start..offset],
                lines_before,
            });
            start = offset + raw.len() - rest.len();
            lines_before = line;
        }
        offset += raw.len();
        line += 1;
    }
    documents.push(Document {
        text: &text[start..],
        lines_before,
    });
    documents.retain(|document| !document.is_empty());
    documents
}

/// What follows a document marker on its line; `None` if the line is no marker.
fn after_marker(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("---")?;
    let ends = rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']);
    ends.then_some(rest)
}

/// The key of maps whose entries stand for those that are missing beside it (YAML's merge key
/// type), as Kubernetes' own tools read it.
const MERGE: &str = "<<";

fn merge(map: &mut Map<String, Value>, merged: Value) -> Result<(), String> {
    match merged {
        Value::Object(others) => {
            for (key, value) in others {
                map.entry(key).or_insert(value);
            }
            Ok(())
        }
        // The first of them counts.
        Value::Array(all) if all.iter().all(Value::is_object) => {
            all.into_iter().try_for_each(|one| merge(map, one))
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)) => Err(format!(
            "`{MERGE}`: found {other}, accepted: a map, or a list of maps"
        )),
    }
}

/// Builds a [`Value`] of a bounded number of values, each key of a map once.
#[derive(Clone, Copy)]
struct Bounded<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1).ok_or_else(|| {
            de::Error::custom(format_args!(
                "more than {MAX_VALUES} values; is an anchor repeated without end?"
            ))
        })?;
        self.0.set(left);
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format_args!("key `{key}` stands twice")));
            }
            let value = from.next_value_seed(self)?;
            map.insert(key, value);
        }
        if let Some(merged) = map.remove(MERGE) {
            merge(&mut map, merged).map_err(de::Error::custom)?;
        }
        Ok(Value::Object(map))
    }
}
