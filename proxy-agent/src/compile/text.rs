//! Conditions and header edits from text, for every dialect.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use regex::{Regex, RegexBuilder};

use crate::model::{HeaderEdits, StringMatch};

/// Bytes of a compiled expression at most: one tenant's route must not eat the node's memory.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Compiles an expression that must match all of a text.
///
/// # Errors
/// A reason for the user.
pub(super) fn full_regex(text: &str) -> Result<Regex, String> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build();
    // Alone first: `a)(b` would be well-formed inside the group.
    build(text)
        .and_then(|_| build(&format!("^(?:{text})$")))
        .map_err(|error| {
            let last = error.to_string();
            let last = last.lines().last().unwrap_or_default().to_owned();
            format!("found `{text}`, which is no regular expression: {last}")
        })
}

/// Compiles an expression as a condition on a text.
///
/// # Errors
/// A reason for the user.
pub(super) fn regex_match(text: &str) -> Result<StringMatch, String> {
    full_regex(text).map(StringMatch::Regex)
}

/// An exact condition on a text.
pub(super) fn exact_match(text: &str) -> StringMatch {
    StringMatch::Exact(Arc::from(text))
}

/// Parses a header name.
///
/// # Errors
/// A reason for the user.
pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|error| format!("found `{text}`: {error}"))
}

/// Parses a header value.
///
/// # Errors
/// A reason for the user.
pub(super) fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|error| format!("found {text:?}: {error}"))
}

/// Builds header edits from names and values.
///
/// # Errors
/// The list with the bad entry (`set[0]`, …), and a reason for the user.
pub(super) fn header_edits<'a>(
    set: impl IntoIterator<Item = (&'a String, &'a String)>,
    add: impl IntoIterator<Item = (&'a String, &'a String)>,
    remove: impl IntoIterator<Item = &'a String>,
) -> Result<HeaderEdits, (String, String)> {
    let pair = |list: &'static str| {
        move |(index, (name, value)): (usize, (&'a String, &'a String))| {
            let place = |reason| (format!("{list}[{index}]"), reason);
            Ok::<_, (String, String)>((
                header_name(name).map_err(place)?,
                header_value(value).map_err(place)?,
            ))
        }
    };
    Ok(HeaderEdits {
        set: set
            .into_iter()
            .enumerate()
            .map(pair("set"))
            .collect::<Result<_, _>>()?,
        add: add
            .into_iter()
            .enumerate()
            .map(pair("add"))
            .collect::<Result<_, _>>()?,
        remove: remove
            .into_iter()
            .enumerate()
            .map(|(index, name)| header_name(name).map_err(|e| (format!("remove[{index}]"), e)))
            .collect::<Result<_, _>>()?,
    })
}
