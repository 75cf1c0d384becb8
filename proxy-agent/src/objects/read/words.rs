//! What a reader says, in the words and field paths of users.

use serde::de::DeserializeOwned;

use crate::objects::accepted::{self, Step};

/// A reader's message without the names of Rust's types.
pub(super) fn in_words(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    let numbers = ["i32", "i64", "u8", "u16", "u32", "u64", "usize"];
    let expected = match expected {
        number if numbers.contains(&number) => "a whole number",
        map if map.starts_with("struct ") || map == "a map" => "a map",
        "a sequence" => "a list",
        other => other,
    };
    format!("{found}expected {expected}")
}

/// What is wrong with a field that `T` has not.
pub(super) fn unknown_field<T: DeserializeOwned>(path: &[Step]) -> String {
    let fields = match path {
        [parent @ .., Step::Key(_)] => accepted::fields::<T>(parent),
        _ => &[],
    };
    if fields.is_empty() {
        return "unknown field".to_owned();
    }
    format!("unknown field; accepted: {}", fields.join(", "))
}

/// The steps to a field that was not read.
pub(super) fn steps(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path;
    let (parent, step) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(Step::Index(*index))),
        Path::Map { parent, key } => (parent, Some(Step::Key(key.clone()))),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut steps = steps(parent);
    steps.extend(step);
    steps
}

/// Whether a field that was not read need not be: group, version and kind are looked at before, and
/// some types leave them out. A status is not the user's.
pub(super) fn is_of_no_matter(path: &[Step]) -> bool {
    let known = ["apiVersion", "kind", "status"];
    matches!(path, [Step::Key(key), ..] if known.contains(&key.as_str()))
}
