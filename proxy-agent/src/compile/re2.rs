//! Expressions as RE2 has them, which is what Envoy, Istio and Gateway API's implementations go by,
//! in the words of this program's own library.
//!
//! Both are linear in time and agree on most. They differ in what is translated here: `\Q…\E`; a
//! `{` that begins no count; `\d`, `\s`, `\w` and `\b`, which are of ASCII alone; and classes,
//! where RE2 has no classes within classes and no operators between them.

use std::iter::Peekable;
use std::str::Chars;

/// Characters that mean something in a class of this program's library.
const OF_CLASSES: &str = r"[]^-&~\";

/// What a class may be named within a class.
const NAMES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// Translates an expression. What is malformed stays so: the library says what is wrong.
pub(super) fn translated(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    let mut from = text.chars().peekable();
    while let Some(character) = from.next() {
        match character {
            '\\' => escape(&mut from, &mut to),
            '[' => class(&mut from, &mut to),
            '{' if !begins_count(from.clone()) => to.push_str(r"\{"),
            other => to.push(other),
        }
    }
    to
}

/// What follows a backslash outside of classes.
fn escape(from: &mut Peekable<Chars<'_>>, to: &mut String) {
    match from.next() {
        Some('Q') => {
            let mut literal = String::new();
            while let Some(character) = from.next() {
                if character == '\\' && from.next_if_eq(&'E').is_some() {
                    break;
                }
                literal.push(character);
            }
            to.push_str(&regex::escape(&literal));
        }
        Some('b') => to.push_str(r"(?-u:\b)"),
        // Of a word's edges there.
        Some(edge @ ('<' | '>')) => to.push(edge),
        Some(other) => match of_ascii(other) {
            Some(class) => to.push_str(class),
            None => to.extend(['\\', other]),
        },
        None => to.push('\\'),
    }
}

fn of_ascii(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

/// What follows the `[` of a class, up to its end.
fn class(from: &mut Peekable<Chars<'_>>, to: &mut String) {
    to.push('[');
    if from.next_if_eq(&'^').is_some() {
        to.push('^');
    }
    let mut first = true;
    while let Some(character) = from.next() {
        match character {
            ']' if !first => return to.push(']'),
            '[' if from.peek() == Some(&':') => named(from, to),
            other => {
                let range = item(other, from, to) && {
                    let mut ahead = from.clone();
                    ahead.next() == Some('-') && ahead.next().is_some_and(|end| end != ']')
                };
                if range {
                    to.extend(from.next());
                    if let Some(end) = from.next() {
                        item(end, from, to);
                    }
                }
            }
        }
        first = false;
    }
}

/// One item of a class. Whether it is a character, with which a range may begin.
fn item(first: char, from: &mut Peekable<Chars<'_>>, to: &mut String) -> bool {
    if first != '\\' {
        literal(first, to);
        return true;
    }
    let Some(letter) = from.next() else {
        to.push('\\');
        return true;
    };
    if let Some(class) = of_ascii(letter) {
        to.push_str(class);
        return false;
    }
    to.extend(['\\', letter]);
    // The rest of `\x{10ffff}` and `\pL` are plain characters to the loop.
    !matches!(letter, 'x' | 'p' | 'P')
}

fn literal(character: char, to: &mut String) {
    if OF_CLASSES.contains(character) {
        to.push('\\');
    }
    to.push(character);
}

/// `[:name:]` within a class, which both have; the `[` is read.
fn named(from: &mut Peekable<Chars<'_>>, to: &mut String) {
    let rest: String = from.clone().collect();
    let Some(end) = rest.find(":]") else {
        return literal('[', to);
    };
    let text: String = from
        .by_ref()
        .take(rest[..end + 2].chars().count())
        .collect();
    let name = text.trim_matches([':', ']']).trim_start_matches('^');
    if NAMES.contains(&name) {
        to.push('[');
        to.push_str(&text);
    } else {
        // To the library it would be a class of these letters; RE2 refuses it.
        to.push_str(&format!(r"\p{{class {name}}}"));
    }
}

/// Whether a count follows, as in `{2}`, `{2,}` and `{2,3}`.
fn begins_count(from: Peekable<Chars<'_>>) -> bool {
    let text: String = from.take_while(|character| *character != '}').collect();
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once(',') {
        None => number(&text),
        Some((least, most)) => number(least) && (most.is_empty() || number(most)),
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn expressions_match_what_they_match_in_re2() {
        for (text, matches, others) in [
            (r"[^[]+", &["a", "]"][..], &["[", "a["][..]),
            (r"[[a]", &["[", "a"], &["b"]),
            (r"[a&&b]", &["a", "&", "b"], &["&&", "c"]),
            (r"[a~~b]", &["a", "~"], &["c"]),
            (r"[+--]", &["+", ",", "-"], &["a", "."]),
            (r"[--/]", &["-", ".", "/"], &[","]),
            (r"[a-]", &["a", "-"], &["b"]),
            (r"[-a]", &["a", "-"], &["b"]),
            (r"[]a]", &["]", "a"], &["b"]),
            (r"[^]a]", &["b"], &["]", "a"]),
            (r"[a-c]", &["b"], &["-", "d"]),
            (r"[a-c-e]", &["b", "-", "e"], &["d"]),
            (r"[\x41-\x43]", &["B"], &["-", "D"]),
            (r"[\.-/]", &[".", "/"], &["-", "0"]),
            (r"[\d-z]", &["5", "-", "z"], &["y"]),
            (r"[[:alpha:]_]+", &["ab_"], &["1", ":"]),
            (r"[[:^alpha:]]", &["1"], &["a"]),
            (r"[\d.]+", &["1.2"], &["a", "\u{663}"]),
            (r"[\D]", &["a", "\u{663}"], &["1"]),
            (r"\d+", &["12"], &["\u{663}"]),
            (r"\w", &["a", "_"], &["\u{e9}", "-"]),
            (r"\W", &["\u{e9}", "-"], &["a"]),
            (r"\s", &[" ", "\t"], &["\u{b}", "\u{a0}"]),
            (r"\ba\b.*", &["a", "a\u{e9}"], &["ab"]),
            (r"\Qa.b[\E+", &["a.b[", "a.b[["], &["axb["]),
            (r"\Qa.b", &["a.b"], &["axb"]),
            (r"\<a\>", &["<a>"], &["a"]),
            ("/users/{id}", &["/users/{id}"], &["/users/1"]),
            ("a{2}b{1,}c{0,1}", &["aab", "aabbc"], &["ab", "a{2}b"]),
            ("a{,2}", &["a{,2}"], &["a", "aa"]),
            (r"\[\]\{\}\\", &[r"[]{}\"], &["[]"]),
            (r"[\]\\]", &["]", r"\"], &["a"]),
            ("(?i)abc", &["ABC"], &["abx"]),
            (r"(a|b)\.c", &["a.c", "b.c"], &["axc"]),
            ("\u{e9}.", &["\u{e9}x"], &["e"]),
        ] {
            let whole = format!("^(?:{})$", translated(text));
            let compiled = Regex::new(&whole).unwrap_or_else(|error| panic!("{text}: {error}"));
            for one in matches {
                assert!(compiled.is_match(one), "{text} does not match {one}");
            }
            for one in others {
                assert!(!compiled.is_match(one), "{text} matches {one}");
            }
        }
    }

    #[test]
    fn what_is_malformed_stays_so() {
        for text in [
            "(", "a)", "[a", "[", "[]", r"\", r"[\", "[z-a]", "[[:x:]]", r"\8",
        ] {
            assert!(Regex::new(&translated(text)).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in ".{0,40}", class in r"[\[\]\^&~\\:a-c{}QE-]{0,24}") {
            let odd = (translated(&text), translated(&class));
            proptest::prop_assert!(odd.0.len() <= 16 * text.len() + 16);
        }
    }
}
