//! In which of a table's lists a rule stands, and which lists a request is looked up in.
//!
//! Each rule is in one list; a request's lists hold every rule that can match it. A list may hold
//! more than that: letter case is folded and texts are told apart by hash, so the conditions decide.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName};

use super::prefixes::{Prefixes, Span};
use crate::model::{Match, PathMatch, Rule, StringMatch};

/// Lists of rules, each by number and sorted.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// By hash of the whole path.
    exact: HashMap<u64, Span>,
    /// By name, then by hash of the value.
    headers: Vec<(HeaderName, HashMap<u64, Span>)>,
    /// By what the path begins with; by nothing: the rules that nothing tells apart.
    prefixes: Prefixes,
    /// All lists, end to end.
    numbers: Box<[u32]>,
}

/// What a rule may be found by.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Key {
    /// Hash of the whole path.
    Exact(u64),
    /// Number of the header's name, and hash of its value.
    Header(usize, u64),
    /// Folded bytes.
    Prefix(Box<[u8]>),
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut names: HashMap<&HeaderName, usize> = HashMap::new();
        let conditions = rules.iter().map(|rule| &rule.conditions);
        let keys: Vec<_> = conditions
            .map(|one| (by_path(one), by_header(one, &mut names)))
            .collect();
        let mut crowds: HashMap<&Key, usize> = HashMap::new();
        for (path, header) in &keys {
            *crowds.entry(path).or_default() += 1;
            if let Some(header) = header {
                *crowds.entry(header).or_default() += 1;
            }
        }
        let mut placed: Vec<(&Key, u32)> = (0..)
            .zip(&keys)
            .map(|(number, (path, header))| {
                let smaller = |header: &&Key| crowds.get(header) < crowds.get(path);
                (header.as_ref().filter(smaller).unwrap_or(path), number)
            })
            .collect();
        placed.sort_unstable();
        Self::of(&placed, names)
    }

    /// Of rules with their keys, sorted; `names` of headers with their numbers.
    fn of(placed: &[(&Key, u32)], names: HashMap<&HeaderName, usize>) -> Self {
        let mut exact = HashMap::new();
        let mut headers: HashMap<usize, HashMap<u64, Span>> = HashMap::new();
        let mut prefixes: Vec<(&[u8], Span)> = Vec::new();
        let mut numbers: Vec<u32> = Vec::with_capacity(placed.len());
        for list in placed.chunk_by(|(one, _), (other, _)| one == other) {
            let begin = numbers.len();
            numbers.extend(list.iter().map(|(_, number)| number));
            let span = Span::new(begin, numbers.len());
            match list.first().map(|(key, _)| *key) {
                Some(Key::Exact(hash)) => {
                    exact.insert(*hash, span);
                }
                Some(Key::Header(name, hash)) => {
                    headers.entry(*name).or_default().insert(*hash, span);
                }
                Some(Key::Prefix(prefix)) => prefixes.push((prefix, span)),
                None => {}
            }
        }
        let headers = names
            .into_iter()
            .filter_map(|(name, number)| Some((name.clone(), headers.remove(&number)?)));
        Self {
            exact,
            headers: headers.collect(),
            prefixes: Prefixes::new(&prefixes),
            numbers: numbers.into(),
        }
    }

    /// Hands `visit` the lists of a request, likely winners first.
    pub(super) fn visit<'i>(
        &'i self,
        path: &str,
        headers: &HeaderMap,
        mut visit: impl FnMut(&'i [u32]),
    ) {
        let mut list = |span: Span| visit(self.numbers.get(span.range()).unwrap_or_default());
        if !self.exact.is_empty()
            && let Some(span) = self.exact.get(&Hash::of(path.as_bytes()))
        {
            list(*span);
        }
        for (name, values) in &self.headers {
            if let Some(span) = joined(name, headers).and_then(|hash| values.get(&hash)) {
                list(*span);
            }
        }
        self.prefixes.visit(path.as_bytes(), list);
    }
}

/// The key of a rule by its path.
fn by_path(conditions: &Match) -> Key {
    match &conditions.path {
        Some(PathMatch::Exact(path) | PathMatch::ExactAnyCase(path)) => {
            Key::Exact(Hash::of(path.as_bytes()))
        }
        Some(
            PathMatch::ElementPrefix(prefix)
            | PathMatch::StringPrefix(prefix)
            | PathMatch::StringPrefixAnyCase(prefix),
        ) => Key::Prefix(prefix.bytes().map(fold).collect()),
        Some(PathMatch::Regex(regex)) => {
            Key::Prefix(literal(regex.as_str()).bytes().map(fold).collect())
        }
        None => Key::Prefix(Box::default()),
    }
}

/// The key of a rule by the first header that it asks to have a certain value.
fn by_header<'r>(conditions: &'r Match, names: &mut HashMap<&'r HeaderName, usize>) -> Option<Key> {
    conditions.headers.iter().find_map(|one| match &one.value {
        StringMatch::Exact(value) => {
            let next = names.len();
            let number = *names.entry(&one.name).or_insert(next);
            Some(Key::Header(number, Hash::of(value.as_bytes())))
        }
        StringMatch::Prefix(_) | StringMatch::Regex(_) | StringMatch::Present => None,
    })
}

/// What everything begins with that an expression matches, as far as that is plain to see.
fn literal(expression: &str) -> &str {
    let Some(whole) = expression.strip_prefix("^(?:") else {
        return "";
    };
    // `a|b`: one alternative's beginning is not the other's. The form's own `)$` ends the literal.
    if whole.contains('|') {
        return "";
    }
    let special =
        |character: char| !(character.is_ascii_alphanumeric() || "/-_~%".contains(character));
    let end = whole.find(special).unwrap_or(whole.len());
    let repeated = whole[end..].starts_with(['*', '?', '{']);
    &whole[..end - usize::from(repeated && end > 0)]
}

/// Maps letters of both cases to one byte, and some other bytes to the same one: no harm.
pub(super) const fn fold(byte: u8) -> u8 {
    byte | 0x20
}

/// The hash of a header's value as conditions see it: several are joined with a comma.
fn joined(name: &HeaderName, headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let mut hash = Hash::default();
    hash.add(values.next()?.as_bytes());
    for value in values {
        hash.add(b",");
        hash.add(value.as_bytes());
    }
    Some(hash.finish())
}

/// FNV-1a of folded bytes (draft-eastlake-fnv). Keys that are made to collide slow down the table
/// that they stand in, and no other.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn of(bytes: &[u8]) -> u64 {
        let mut hash = Self::default();
        hash.add(bytes);
        hash.finish()
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(fold(*byte))).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    const fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_expression_begins_with_is_seen_where_it_is_plain() {
        for (expression, expected) in [
            ("^(?:/api/v[0-9]+/x)$", "/api/v"),
            ("^(?:/api)$", "/api"),
            ("^(?:/apis?)$", "/api"),
            ("^(?:/ab*)$", "/a"),
            ("^(?:/ab{0,2})$", "/a"),
            ("^(?:/ab+)$", "/ab"),
            ("^(?:/a.b)$", "/a"),
            ("^(?:/a|/b)$", ""),
            ("^(?:(?i)/a)$", ""),
            ("^(?:.*)$", ""),
            ("/a", ""),
        ] {
            assert_eq!(literal(expression), expected, "{expression}");
        }
    }
}
