//! Conditions and header edits from text, for every dialect.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue};
use regex::{Regex, RegexBuilder};

use super::re2;
use crate::model::{Filters, HeaderEdits, StringMatch, normalise};

/// Bytes of a compiled expression at most: one tenant's route must not eat the node's memory.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Fields that frame a message or belong to one connection (RFC 9110, section 7.6.1; RFC 9112,
/// section 6): a route that edits them would put requests of a shared connection out of step.
const OF_THE_PROTOCOL: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Compiles an expression of RE2 that must match all of a text.
///
/// # Errors
/// A reason for the user.
pub(super) fn full_regex(text: &str) -> Result<Regex, String> {
    compiled(text, |own| format!("^(?:{own})$"))
}

/// Compiles an expression of RE2 that must match the beginning of a text.
///
/// # Errors
/// A reason for the user.
pub(super) fn prefix_regex(text: &str) -> Result<Regex, String> {
    compiled(text, |own| format!("^(?:{own})"))
}

/// Compiles an expression of RE2 that matches parts of a text.
///
/// # Errors
/// A reason for the user.
pub(super) fn regex_part(text: &str) -> Result<Regex, String> {
    compiled(text, str::to_owned)
}

fn compiled(text: &str, within: impl FnOnce(&str) -> String) -> Result<Regex, String> {
    let own = re2::translated(text);
    let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build();
    // Alone first: `a)(b` would be well-formed inside a group.
    build(&own)
        .and_then(|_| build(&within(&own)))
        .map_err(|error| {
            let last = error.to_string();
            let last = last.lines().last().unwrap_or_default();
            format!("found `{text}`, which is no regular expression: {last}")
        })
}

/// Translates a replacement as RE2 writes it (`\1` is the first of `groups`) into this library's.
///
/// # Errors
/// A reason for the user.
pub(super) fn substitution(text: &str, groups: usize) -> Result<Arc<str>, String> {
    let mut translated = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, characters.as_str().chars().next()) {
            ('$', _) => translated.push_str("$$"),
            ('\\', Some('\\')) => {
                characters.next();
                translated.push('\\');
            }
            ('\\', next) => {
                let group = next.and_then(|digit| digit.to_digit(10));
                let group =
                    group.filter(|group| usize::try_from(*group).is_ok_and(|n| n <= groups));
                let Some(group) = group else {
                    return Err(format!(
                        "found `{text}`, in which \\ may be followed by \\ or 0 to {groups}"
                    ));
                };
                characters.next();
                translated.push_str(&format!("${{{group}}}"));
            }
            (other, _) => translated.push(other),
        }
    }
    Ok(translated.into())
}

/// A path in the form in which requests' paths are matched.
///
/// # Errors
/// A reason for the user.
pub(super) fn normal_path(text: &str) -> Result<Arc<str>, String> {
    let normal = normalise(text).map_err(|error| format!("found `{text}`, which holds {error}"))?;
    Ok(Arc::from(&*normal))
}

/// The beginning of a path in that form, where it need not end with a whole element.
///
/// # Errors
/// A reason for the user.
pub(super) fn normal_prefix(text: &str) -> Result<Arc<str>, String> {
    // What is behind it keeps a last `.` or `..` from being an element.
    const BEHIND: &str = "x";
    let normal = normal_path(&[text, BEHIND].concat())?;
    Ok(normal.strip_suffix(BEHIND).unwrap_or(text).into())
}

/// Compiles an expression as a condition on a text.
///
/// # Errors
/// A reason for the user.
pub(super) fn regex_match(text: &str) -> Result<StringMatch, String> {
    full_regex(text).map(StringMatch::Regex)
}

/// Compiles a text in which each `*` stands for anything as a condition.
///
/// # Errors
/// A reason for the user.
pub(super) fn wildcard_match(text: &str) -> Result<StringMatch, String> {
    let parts: Vec<String> = text.split('*').map(regex::escape).collect();
    regex_match(&parts.join(".*"))
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

/// Parses what stands in the place of a request's authority: a host, with a port or without.
///
/// # Errors
/// A reason for the user.
pub(super) fn authority_value(text: &str) -> Result<HeaderValue, String> {
    let fault = || format!("found `{text}`, expected a host, as in a.example.org");
    let parsed: Authority = text.parse().map_err(|_error| fault())?;
    let port_is_odd = parsed.port_u16().is_none() && parsed.host().len() < text.len();
    if parsed.host().is_empty() || text.contains('@') || port_is_odd {
        return Err(fault());
    }
    header_value(text)
}

/// Parses a host name of Gateway API's sort `PreciseHostname`: labels, and no port.
///
/// # Errors
/// A reason for the user.
pub(super) fn precise_hostname(text: &str) -> Result<&str, String> {
    let label = |one: &str| {
        let ends = [one.bytes().next(), one.bytes().last()];
        let sound = ends.iter().flatten().all(u8::is_ascii_alphanumeric);
        let mut bytes = one.bytes();
        !one.is_empty() && sound && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text);
    }
    Err(format!(
        "found `{text}`, expected a host name without a port, as in a.example.org"
    ))
}

/// Checks a path, or a part of one, that requests are sent on with.
///
/// # Errors
/// A reason for the user.
pub(super) fn sent_path(text: &str) -> Result<&str, String> {
    let whole = format!("/{}", text.trim_start_matches('/'));
    let parsed = PathAndQuery::try_from(whole.as_str());
    if parsed.is_ok() && !text.contains('#') {
        return Ok(text);
    }
    Err(format!("found `{text}`, which no path of a URL holds"))
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
                editable(name, list).map_err(place)?,
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
            .map(|(index, name)| {
                editable(name, "remove").map_err(|reason| (format!("remove[{index}]"), reason))
            })
            .collect::<Result<_, _>>()?,
    })
}

/// Makes a `Host` that the edits set the new authority, which it is: HTTP/2 has no such header.
/// An authority that the filters name already wins.
pub(super) fn host_as_authority(filters: &mut Filters) {
    let set = &mut filters.request_headers.set;
    let host = set.iter().find(|(name, _)| *name == HOST);
    let host = host.map(|(_, value)| value.clone());
    set.retain(|(name, _)| *name != HOST);
    filters.rewrite_authority = filters.rewrite_authority.take().or(host);
}

/// Parses the name of a header that this list of edits may hold.
fn editable(text: &str, list: &str) -> Result<HeaderName, String> {
    let name = header_name(text)?;
    // RFC 9112, section 3.2: a request has exactly one Host, so it can only be replaced.
    if OF_THE_PROTOCOL.contains(&name) || (name == HOST && list != "set") {
        return Err(format!(
            "found `{text}`, which is the protocol's and no route's to {list}"
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(set: &[&str], add: &[&str], remove: &[&str]) -> Result<HeaderEdits, (String, String)> {
        let value = "x".to_owned();
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (set, add, remove) = (names(set), names(add), names(remove));
        header_edits(
            set.iter().map(|name| (name, &value)),
            add.iter().map(|name| (name, &value)),
            &remove,
        )
    }

    #[test]
    fn headers_that_frame_a_message_cannot_be_edited() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "Connection",
            "Keep-Alive",
            "proxy-connection",
            "te",
            "Upgrade",
        ] {
            for refused in [
                edits(&[name], &[], &[]),
                edits(&[], &[name], &[]),
                edits(&[], &[], &[name]),
            ] {
                let (_, reason) = refused.expect_err(name);
                assert!(reason.contains(name), "{reason}");
            }
        }
    }

    #[test]
    fn paths_of_rules_are_brought_into_the_form_of_requests() {
        for (text, whole, prefix) in [
            ("/a/b/", "/a/b/", "/a/b/"),
            ("/%7Ejoe", "/~joe", "/~joe"),
            ("/a//b", "/a/b", "/a/b"),
            ("/a/.", "/a/", "/a/."),
            ("/a/..", "/", "/a/.."),
            ("/a%2Fb", "/a%2Fb", "/a%2Fb"),
            ("/a%2", "/a%2", "/a%2"),
        ] {
            assert_eq!(normal_path(text).as_deref(), Ok(whole));
            assert_eq!(normal_prefix(text).as_deref(), Ok(prefix));
        }
        let refused = normal_path("/a%00").expect_err("no text");
        assert!(refused.contains("%00 at byte 2"), "{refused}");
    }

    #[test]
    fn replacements_of_re2_are_translated() {
        for (text, expected) in [
            ("/a", Some("/a")),
            (r"/\1/\2", Some("/${1}/${2}")),
            (r"/\0x", Some("/${0}x")),
            ("/$1", Some("/$$1")),
            (r"/\\1", Some(r"/\1")),
            (r"/\3", None),
            (r"/\x", None),
            ("/\\", None),
        ] {
            assert_eq!(substitution(text, 2).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn host_can_be_replaced_but_neither_doubled_nor_removed() {
        assert!(edits(&["Host"], &["x-a"], &["x-b"]).is_ok());
        let (place, _) = edits(&[], &["x-a", "host"], &[]).expect_err("a second Host");
        assert_eq!(place, "add[1]");
        let (place, _) = edits(&[], &[], &["host"]).expect_err("no Host");
        assert_eq!(place, "remove[0]");
    }

    #[test]
    fn what_is_sent_on_must_be_sendable() {
        for (text, sound) in [
            ("a", true),
            ("a.example.org:8080", true),
            ("[::1]:80", true),
            ("A.b", true),
            ("", false),
            ("a b", false),
            ("a b:80", false),
            ("a:", false),
            ("a:99999", false),
            ("u@a", false),
            ("a/b", false),
        ] {
            assert_eq!(authority_value(text).is_ok(), sound, "{text}");
        }
        for (text, sound) in [
            ("a-1.example.org", true),
            ("A", true),
            ("a:80", false),
            ("a b", false),
            ("-a", false),
            ("a.", false),
            ("a_b", false),
            ("", false),
            (&"a".repeat(253), true),
            (&"a".repeat(254), false),
        ] {
            assert_eq!(precise_hostname(text).is_ok(), sound, "{text}");
        }
        for (text, sound) in [
            ("/a/b", true),
            ("a", true),
            ("", true),
            ("/", true),
            ("/%20x?y=z", true),
            ("x y", false),
            ("/a\tb", false),
            ("/a#b", false),
        ] {
            assert_eq!(sent_path(text).is_ok(), sound, "{text}");
        }
    }

    #[test]
    fn a_host_that_is_set_is_the_new_authority() {
        let mut filters = Filters {
            request_headers: edits(&["x-a", "host"], &[], &[]).expect("edits"),
            ..Filters::default()
        };
        host_as_authority(&mut filters);
        assert_eq!(
            filters.rewrite_authority,
            Some(HeaderValue::from_static("x"))
        );
        assert_eq!(filters.request_headers.set.len(), 1);
        filters.request_headers = edits(&["host"], &[], &[]).expect("edits");
        filters.rewrite_authority = Some(HeaderValue::from_static("named"));
        host_as_authority(&mut filters);
        assert_eq!(
            filters.rewrite_authority,
            Some(HeaderValue::from_static("named"))
        );
    }
}
