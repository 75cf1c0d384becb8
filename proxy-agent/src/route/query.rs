//! Conditions on query parameters, and the host of an authority.

use super::scratch;
use crate::model::QueryMatch;

/// Whether the condition holds: the first parameter of that name counts.
pub(super) fn holds(condition: &QueryMatch, query: Option<&str>) -> bool {
    let pairs = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(name, _)| decoded(name).eq(condition.name.bytes()));
    found.is_some_and(|(_, value)| {
        if !value.bytes().any(|byte| byte == b'%' || byte == b'+') {
            return condition.value.holds(value);
        }
        scratch::with(|text| {
            text.extend(decoded(value));
            // What is no UTF-8 matches nothing.
            std::str::from_utf8(text).is_ok_and(|text| condition.value.holds(text))
        })
    })
}

/// The bytes of a text with `%41` and `+` decoded (URL standard, application/x-www-form-urlencoded).
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (byte, behind) = rest.split_first()?;
        let escaped = (*byte == b'%').then(|| behind.get(..2).and_then(hex));
        if let Some(escaped) = escaped.flatten() {
            rest = behind.get(2..).unwrap_or_default();
            return Some(escaped);
        }
        rest = behind;
        Some(if *byte == b'+' { b' ' } else { *byte })
    })
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// An authority without user information.
pub(super) fn without_user(authority: &str) -> &str {
    let begin = authority.bytes().rposition(|byte| byte == b'@');
    &authority[begin.map_or(0, |at| at + 1)..]
}

/// The host of an authority, without its port and without user information.
pub fn strip_port(authority: &str) -> &str {
    // By bytes, for every request: a search for a character sets up more than it saves here.
    let host = without_user(authority);
    let bytes = host.as_bytes();
    let digits = bytes.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let Some(colon) = (bytes.len() - digits.count()).checked_sub(1) else {
        return host;
    };
    let before = &bytes[..colon];
    // A bare IPv6 address has colons of its own.
    let is_port = bytes[colon] == b':' && (before.ends_with(b"]") || !before.contains(&b':'));
    if is_port { &host[..colon] } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StringMatch;

    #[test]
    fn the_first_parameter_of_a_name_counts_after_decoding() {
        let condition = |name: &str, value: &str| QueryMatch {
            name: name.into(),
            value: StringMatch::Exact(value.into()),
        };
        for (name, value, query, expected) in [
            ("a", "1", Some("a=1"), true),
            ("a", "1", Some("b=2&a=1"), true),
            ("a", "1", Some("a=2&a=1"), false),
            ("a", "", Some("a"), true),
            ("a", "x y", Some("a=x+y"), true),
            ("a", "x y", Some("a=x%20y"), true),
            ("ä", "ö", Some("%C3%A4=%C3%B6"), true),
            ("a", "%", Some("a=%"), true),
            ("a", "%zz", Some("a=%zz"), true),
            ("a", "%+1", Some("a=%+1"), false),
            ("a", "1", Some("a=%ff"), false),
            ("a", "1", Some(""), false),
            ("a", "1", None, false),
        ] {
            assert_eq!(
                holds(&condition(name, value), query),
                expected,
                "{name}={value} in {query:?}"
            );
        }
    }

    #[test]
    fn a_port_is_stripped_from_names_and_addresses() {
        for (authority, host) in [
            ("web", "web"),
            ("web:80", "web"),
            ("user@web:80", "web"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("a.b:80", "a.b"),
            ("a.b", "a.b"),
            ("10.0.0.1:8080", "10.0.0.1"),
            ("[fd00::1]:80", "[fd00::1]"),
            ("[fd00::1]", "[fd00::1]"),
            ("fd00::1", "fd00::1"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("", ""),
        ] {
            assert_eq!(strip_port(authority), host, "{authority}");
        }
    }
}
