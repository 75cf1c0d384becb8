//! Any three lines as a path, a prefix and what replaces it: brought into normal form, matched and
//! rewritten.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use proxy_agent::model::{Action, Match, PathMatch, PathRewrite, Rule, Timeouts};
use proxy_agent::route::{normalise, rewrite_path};

fuzz_target!(|data: &[u8]| {
    let mut lines = std::str::from_utf8(data).unwrap_or_default().split('\n');
    let (Some(path), Some(prefix)) = (lines.next(), lines.next()) else {
        return;
    };
    let replacement = lines.next().unwrap_or_default();
    if !path.starts_with('/') || !prefix.starts_with('/') {
        return;
    }
    is_normal(path);
    let prefix: Arc<str> = prefix.trim_end_matches('/').into();
    let by_element = PathMatch::ElementPrefix(Arc::clone(&prefix));
    let elements = |text: &str| {
        text.split('/')
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let expected = elements(path).starts_with(&elements(&prefix));
    assert_eq!(by_element.holds(path), expected, "{prefix} on {path}");
    let by_text = PathMatch::StringPrefix(Arc::clone(&prefix));
    assert!(!expected || by_text.holds(path), "{prefix} on {path}");
    let any_case = PathMatch::StringPrefixAnyCase(Arc::clone(&prefix));
    assert!(!by_text.holds(path) || any_case.holds(path));
    for (conditions, rewrite) in [
        (by_element, PathRewrite::Prefix(replacement.into())),
        (by_text, PathRewrite::StringPrefix(replacement.into())),
    ] {
        if !conditions.holds(path) {
            continue;
        }
        let rewritten = rewrite_path(&rule(conditions), &rewrite, path);
        assert!(rewritten.starts_with('/'), "{rewritten}");
        assert!(
            rewritten.ends_with(&path[prefix.len()..]),
            "{rewritten} of {path}"
        );
    }
});

/// What must hold of a path's normal form, if it has one.
fn is_normal(path: &str) {
    let Ok(normal) = normalise(path) else {
        assert!(path.contains("%00"), "{path}");
        return;
    };
    assert!(normal.starts_with('/'), "{path} to {normal}");
    assert!(normal.len() <= path.len(), "{path} to {normal}");
    assert!(!normal.contains("//"), "{path} to {normal}");
    let dots = |element: &str| matches!(element, "." | "..");
    assert!(!normal.split('/').any(dots), "{path} to {normal}");
    assert_eq!(normalise(&normal).as_deref(), Ok(&*normal), "twice: {path}");
}

fn rule(path: PathMatch) -> Rule {
    Rule {
        object: None,
        field: "".into(),
        conditions: Match {
            path: Some(path),
            ..Match::default()
        },
        action: Arc::new(Action::Respond {
            status: http::StatusCode::NOT_FOUND,
            reason: "none",
        }),
        timeouts: Timeouts::default(),
        policies: None,
    }
}
