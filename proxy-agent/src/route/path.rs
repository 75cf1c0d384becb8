//! Conditions on paths, which are in their normal form.

use crate::model::PathMatch;

impl PathMatch {
    /// Whether the condition holds for a path without its query.
    pub fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(expected) => path == &**expected,
            Self::ElementPrefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/')),
            Self::StringPrefix(prefix) => path.starts_with(&**prefix),
            Self::ExactAnyCase(expected) => path.eq_ignore_ascii_case(expected),
            Self::StringPrefixAnyCase(prefix) => path
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_by_element_or_by_text() {
        let element = |prefix: &str| PathMatch::ElementPrefix(prefix.into());
        let string = |prefix: &str| PathMatch::StringPrefix(prefix.into());
        for (condition, path, expected) in [
            (element("/foo"), "/foo", true),
            (element("/foo"), "/foo/", true),
            (element("/foo"), "/foo/x", true),
            (element("/foo"), "/foobar", false),
            (element("/foo"), "/fo", false),
            (element(""), "/", true),
            (element(""), "/x", true),
            (element(""), "*", true),
            (string("/foo"), "/foobar", true),
            (string("/foo/"), "/foo", false),
            (PathMatch::ExactAnyCase("/Foo".into()), "/fOO", true),
            (PathMatch::ExactAnyCase("/Foo".into()), "/fOOx", false),
            (PathMatch::StringPrefixAnyCase("/Foo".into()), "/fOOx", true),
            (PathMatch::StringPrefixAnyCase("/Foo".into()), "/fO", false),
            (
                PathMatch::StringPrefixAnyCase("/a".into()),
                "/\u{e4}",
                false,
            ),
            (PathMatch::Exact("/foo".into()), "/foo", true),
            (PathMatch::Exact("/foo".into()), "/foo/", false),
        ] {
            assert_eq!(condition.holds(path), expected, "{condition:?} on {path}");
        }
    }
}
