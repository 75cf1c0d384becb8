//! Conditions on headers, and header edits.

use http::HeaderMap;

use super::scratch;
use crate::model::{HeaderEdits, HeaderMatch, StringMatch};

/// Whether the condition holds. A header that occurs several times is joined with `,` (RFC 9110,
/// section 5.3); bytes that are no UTF-8 match nothing but presence.
pub(super) fn holds(condition: &HeaderMatch, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(&condition.name).iter();
    let Some(first) = values.next() else {
        return false;
    };
    let Some(second) = values.next() else {
        return value_holds(&condition.value, first.as_bytes());
    };
    scratch::with(|joined| {
        joined.extend_from_slice(first.as_bytes());
        for value in std::iter::once(second).chain(values) {
            joined.push(b',');
            joined.extend_from_slice(value.as_bytes());
        }
        value_holds(&condition.value, joined)
    })
}

fn value_holds(condition: &StringMatch, value: &[u8]) -> bool {
    match std::str::from_utf8(value) {
        Ok(text) => condition.holds(text),
        Err(_) => matches!(condition, StringMatch::Present),
    }
}

impl HeaderEdits {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Changes `headers`: set, then add, then remove.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value).expect("a value");
            map.append(HeaderName::from_static(name), value);
        }
        map
    }

    #[test]
    fn several_values_are_joined_with_a_comma() {
        let condition = |value| HeaderMatch {
            name: HeaderName::from_static("x"),
            value,
        };
        let exact = |text: &str| condition(StringMatch::Exact(text.into()));
        assert!(holds(&exact("a"), &headers(&[("x", b"a")])));
        assert!(!holds(&exact("a"), &headers(&[("x", b"a"), ("x", b"b")])));
        assert!(holds(&exact("a,b"), &headers(&[("x", b"a"), ("x", b"b")])));
        assert!(!holds(&exact("a"), &headers(&[("y", b"a")])));
        assert!(!holds(&exact("a"), &headers(&[("x", b"\xff")])));
        assert!(holds(
            &condition(StringMatch::Present),
            &headers(&[("x", b"\xff")])
        ));
    }

    #[test]
    fn edits_are_set_add_remove_in_that_order() {
        let name = HeaderName::from_static;
        let value = HeaderValue::from_static;
        let edits = HeaderEdits {
            set: vec![(name("a"), value("new"))],
            add: vec![(name("b"), value("second")), (name("c"), value("gone"))],
            remove: vec![name("c")],
        };
        let mut map = headers(&[("a", b"1"), ("a", b"2"), ("b", b"first")]);
        edits.apply(&mut map);
        assert_eq!(
            map,
            headers(&[("a", b"new"), ("b", b"first"), ("b", b"second")])
        );
    }
}
