//! What a rule does with a request, all of it that needs no network.

use http::Request;
use proxy_agent::model::{Action, Rule};
use proxy_agent::route::{self, RequestView, choose, cors};

use super::authority;

/// Does what the rule says.
pub(super) fn act(rule: &Rule, request: &Request<()>, view: &RequestView<'_>) {
    let cors = rule.policies.as_ref().and_then(|of| of.cors.as_ref());
    if let Some(of) = cors {
        drop(cors::rule(of, request));
    }
    match &*rule.action {
        Action::Redirect { redirect, .. } => {
            let whole = RequestView {
                authority: authority(request.headers()),
                ..*view
            };
            let location = route::location(rule, redirect, &whole, 80);
            assert!(location.starts_with("http"), "{location}");
        }
        Action::Forward {
            filters,
            destinations,
        } => {
            for draw in [0, u32::MAX / 2, u32::MAX] {
                let Some(chosen) = choose(destinations, draw) else {
                    continue;
                };
                assert!(chosen.weight > 0, "{destinations:?}");
                let mut sent = request.clone();
                if route::edit_request(rule, filters, chosen, &mut sent).is_ok() {
                    let path = sent.uri().path();
                    assert!(
                        path.starts_with('/') || path == request.uri().path(),
                        "{path}"
                    );
                }
            }
        }
        Action::Direct { .. } | Action::Respond { .. } => {}
    }
}
