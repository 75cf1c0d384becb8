//! Paths in the one form in which rules hold them, and in which requests are matched and sent on, so
//! that no spelling of a path gets around a rule. Pure and bounded.

use std::borrow::Cow;
use std::ops::Range;

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// An escaped NUL, which ends a text for many a reader. Answer 400.
    #[error("%00 at byte {at} of the path")]
    Nul {
        /// Where it stands.
        at: usize,
    },
}

/// The normal form of a path without its query; never longer than `path`. A path that is in normal
/// form already, or that its normal form begins, costs one look at each byte and no allocation.
///
/// What comes of it is what Envoy makes of a path with `normalize_path` and `merge_slashes`:
///
/// - `\` is `/` (URL standard, section 4.4);
/// - `.` and `..` are resolved, `%2e` being a `.`; above the root is the root (RFC 3986, 5.2.4);
/// - then several `/` are one;
/// - escapes of letters, digits and `-._~` are decoded (RFC 3986, 2.3); every other escape stays as
///   it is written, `%2F` and `%5C` among them, and so does a `%` that begins none;
/// - what does not begin with `/`, as the `*` of OPTIONS, is left alone.
///
/// # Errors
/// The path holds `%00`: refuse the request.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    let Some(suspect) = suspect(path.as_bytes()) else {
        return Ok(Cow::Borrowed(path));
    };
    // Where the element begins that is not plain; a path that is looked at begins with `/`.
    let begin = path[..suspect].rfind('/').unwrap_or(0);
    let mut output = Output {
        path,
        same: begin,
        own: Vec::new(),
    };
    resolve(begin, &mut output)?;
    Ok(merge(output.into_text()))
}

/// The first byte behind which something may have to change.
fn suspect(path: &[u8]) -> Option<usize> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let mut before = 0;
    path.iter().position(|byte| {
        let found = match byte {
            b'%' | b'\\' => true,
            b'/' | b'.' => before == b'/',
            _ => false,
        };
        before = *byte;
        found
    })
}

/// Resolves everything from `at`, where an element ends and another begins.
fn resolve(mut at: usize, output: &mut Output<'_>) -> Result<(), PathError> {
    let path = output.path.as_bytes();
    while let Some(byte) = path.get(at) {
        if is_slash(*byte) {
            output.push(b'/');
            at += 1;
            continue;
        }
        let rest = &path[at..];
        let length = rest.iter().position(|byte| is_slash(*byte));
        let end = at + length.unwrap_or(rest.len());
        match dots(&path[at..end]) {
            Some(number) => {
                if number == 2 {
                    output.up();
                }
                // The `/` behind it goes too: there is one before it.
                at = end + usize::from(end < path.len());
            }
            None => {
                element(at..end, output)?;
                at = end;
            }
        }
    }
    Ok(())
}

/// One or two, if the element is nothing but so many dots.
fn dots(mut element: &[u8]) -> Option<usize> {
    let mut number = 0;
    while !element.is_empty() {
        let escaped = element.strip_prefix(b"%2e");
        let escaped = escaped.or_else(|| element.strip_prefix(b"%2E"));
        element = escaped.or_else(|| element.strip_prefix(b"."))?;
        number += 1;
    }
    (1..=2).contains(&number).then_some(number)
}

/// Copies an element that is no dots.
fn element(span: Range<usize>, output: &mut Output<'_>) -> Result<(), PathError> {
    let path = output.path.as_bytes();
    let mut at = span.start;
    // Length of the output before the last `%` that begins no escape.
    let mut broken: Option<usize> = None;
    while at < span.end {
        if path[at] != b'%' {
            output.push(path[at]);
            at += 1;
            continue;
        }
        let digits = path.get(at + 1..span.end.min(at + 3));
        let Some(value) = digits.and_then(escaped) else {
            broken = Some(output.len());
            output.push(b'%');
            at += 1;
            continue;
        };
        if value == 0 {
            return Err(PathError::Nul { at });
        }
        // Decoded, this one could make an escape out of a `%` that begins none now.
        let completes = broken.is_some_and(|broken| output.len() - broken <= 2);
        if is_unreserved(value) && !completes {
            output.push(value);
        } else {
            path[at..at + 3].iter().for_each(|byte| output.push(*byte));
        }
        at += 3;
    }
    Ok(())
}

/// The byte that two hexadecimal digits stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low] = *digits else {
        return None;
    };
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

const fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Makes several `/` in a row one.
fn merge(path: Cow<'_, str>) -> Cow<'_, str> {
    if !path.contains("//") {
        return path;
    }
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    Cow::Owned(merged)
}

/// What has come out so far: a beginning of `path` as long as that says it all.
struct Output<'p> {
    path: &'p str,
    /// So many bytes of `path`, while `own` is empty.
    same: usize,
    own: Vec<u8>,
}

impl<'p> Output<'p> {
    fn push(&mut self, byte: u8) {
        if !self.own.is_empty() {
            self.own.push(byte);
        } else if self.path.as_bytes().get(self.same) == Some(&byte) {
            self.same += 1;
        } else {
            self.own.reserve_exact(self.path.len());
            self.own
                .extend_from_slice(&self.path.as_bytes()[..self.same]);
            self.own.push(byte);
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.own.is_empty() {
            &self.path.as_bytes()[..self.same]
        } else {
            &self.own
        }
    }

    fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Drops the last element, but never the root; what is left ends with `/`.
    fn up(&mut self) {
        let (_last, before) = self.bytes().split_last().unwrap_or((&b'/', &[]));
        let slash = before.iter().rposition(|byte| *byte == b'/');
        let length = slash.map_or(1, |slash| slash + 1);
        self.same = self.same.min(length);
        self.own.truncate(length);
    }

    fn into_text(self) -> Cow<'p, str> {
        if self.own.is_empty() {
            return Cow::Borrowed(&self.path[..self.same]);
        }
        // Of UTF-8 only ASCII was taken out or put in: it is UTF-8 still.
        Cow::Owned(
            String::from_utf8(self.own)
                .unwrap_or_else(|broken| String::from_utf8_lossy(broken.as_bytes()).into_owned()),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> String {
        normalise(path).expect("a path").into_owned()
    }

    #[test]
    fn paths_are_normalised_as_envoy_does() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/b/../../../../c", "/c"),
            ("/..", "/"),
            ("/../../etc", "/etc"),
            // Dots first, then slashes: `..` takes the empty element.
            ("/a//../b", "/a/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e./b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/...", "/a/..."),
            ("/a/..b/c", "/a/..b/c"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/..;x/b", "/a/..;x/b"),
            ("/a\\b", "/a/b"),
            ("/a\\..\\b", "/b"),
            ("/a/.\\b", "/a/b"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2fb%5cc", "/a%2fb%5cc"),
            ("/a/..%2Fb", "/a/..%2Fb"),
            ("/%61%5A%30%2d%5f%7e%2E", "/aZ0-_~."),
            ("/%7Euser", "/~user"),
            ("/%20%25%c3%A4", "/%20%25%c3%A4"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%zz/%g1", "/%zz/%g1"),
            ("/%/../a", "/a"),
            ("/%2/e", "/%2/e"),
            // No new escape comes of a broken one.
            ("/%2%65", "/%2%65"),
            ("/%%32e", "/%%32e"),
            ("/%z%65", "/%z%65"),
            ("/%zz%65", "/%zze"),
            ("/ä/../ö", "/ö"),
            ("/x/../x/y", "/x/y"),
            ("/a/b/../c", "/a/c"),
            ("*", "*"),
            ("", ""),
            ("a/../b", "a/../b"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn an_escaped_nul_is_refused() {
        assert_eq!(normalise("/a%00"), Err(PathError::Nul { at: 2 }));
        assert_eq!(normalise("/a/%00/../b"), Err(PathError::Nul { at: 3 }));
        assert_eq!(normal("/a%01"), "/a%01");
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        for path in ["/", "/a/b.c", "/a%2Fb/%20", "/.well-known", "/a/...", "/%z"] {
            assert!(matches!(normalise(path), Ok(Cow::Borrowed(same)) if same == path));
        }
        assert!(matches!(normalise("/a/b/.."), Ok(Cow::Borrowed("/a/"))));
        assert!(matches!(normalise("/a/./b"), Ok(Cow::Owned(_))));
    }

    proptest! {
        #[test]
        fn normal_paths_stay_and_hide_nothing(
            path in r"/([a.%25eEfF2\\/ä]|%2e|%2F|%65|%7E){0,16}",
        ) {
            let once = normal(&path);
            prop_assert_eq!(normal(&once), once.clone());
            prop_assert!(once.starts_with('/') && once.len() <= path.len());
            prop_assert!(!once.contains("//") && !once.contains('\\'));
            let mut elements = once.split('/');
            prop_assert!(elements.all(|element| dots(element.as_bytes()).is_none()));
        }
    }
}
