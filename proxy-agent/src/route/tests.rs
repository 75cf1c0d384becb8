//! Rules, rewrites, redirects and shares, by table.

mod table;

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};

use super::{RequestView, Unmet, choose, location, rewrite_path, virtual_host};
use crate::model::{
    Action, ClusterId, Destination, Match, MethodMatch, PathMatch, PathRewrite, Redirect,
    RedirectPort, RouteTable, Rule, Snapshot, StringMatch, Timeouts, WeightedDestination,
};

fn rule(conditions: Match) -> Rule {
    Rule {
        object: None,
        field: "".into(),
        conditions,
        action: Arc::new(Action::Respond {
            status: StatusCode::IM_A_TEAPOT,
            reason: "test",
        }),
        timeouts: Timeouts::default(),
        policies: None,
    }
}

fn with_path(path: PathMatch) -> Rule {
    rule(Match {
        path: Some(path),
        ..Match::default()
    })
}

fn get<'a>(path: &'a str, headers: &'a HeaderMap) -> RequestView<'a> {
    RequestView {
        method: &Method::GET,
        path,
        query: None,
        authority: "Web:8080",
        headers,
        client: None,
    }
}

#[test]
fn the_first_rule_whose_conditions_all_hold_is_found() {
    let rules = vec![
        rule(Match {
            path: Some(PathMatch::Exact("/a".into())),
            method: Some(MethodMatch::Exact(Method::POST)),
            ..Match::default()
        }),
        with_path(PathMatch::ElementPrefix("/a".into())),
    ];
    let table = RouteTable::new("test".into(), rules);
    let headers = HeaderMap::new();
    let found = table.find(&get("/a", &headers));
    assert!(found.is_some_and(|rule| std::ptr::eq(rule, &table.rules[1])));
    assert!(table.find(&get("/b", &headers)).is_none());
    assert_eq!(
        table.rules[0].conditions.unmet(&get("/a", &headers)),
        Some(Unmet::Method)
    );
}

#[test]
fn an_authority_is_compared_without_port_and_letter_case() {
    let headers = HeaderMap::new();
    for (condition, expected) in [
        (StringMatch::Exact("web".into()), true),
        (StringMatch::Exact("web:80".into()), true),
        (StringMatch::Exact("other".into()), false),
        (StringMatch::Prefix("WE".into()), true),
        (StringMatch::Prefix("webs".into()), false),
    ] {
        let conditions = Match {
            authority: Some(condition.clone()),
            ..Match::default()
        };
        assert_eq!(
            conditions.holds(&get("/", &headers)),
            expected,
            "{condition:?}"
        );
    }
}

#[test]
fn a_virtual_host_is_found_by_namespace_and_host_alone() {
    let table = Arc::new(RouteTable::new("test".into(), Vec::new()));
    let mut snapshot = Snapshot::empty();
    let hosts = [("web.example".into(), table)].into();
    Arc::make_mut(&mut snapshot.virtual_hosts).insert("ns".into(), hosts);
    for (namespace, authority, expected) in [
        ("ns", "web.example", true),
        ("ns", "WEB.example:8080", true),
        ("ns", "web", false),
        ("other", "web.example", false),
    ] {
        let found = virtual_host(&snapshot, namespace, authority);
        assert_eq!(found.is_some(), expected, "{namespace} {authority}");
    }
}

#[test]
fn prefixes_are_replaced_as_the_gateway_api_reference_tabulates() {
    for (path, prefix, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/bar", "", "/xyz", "/xyz/bar"),
        ("/", "", "/xyz", "/xyz/"),
    ] {
        let rule = with_path(PathMatch::ElementPrefix(prefix.into()));
        let rewrite = PathRewrite::Prefix(replacement.into());
        assert_eq!(
            rewrite_path(&rule, &rewrite, path),
            expected,
            "{path} {prefix} {replacement}"
        );
    }
}

#[test]
fn istio_prefixes_are_replaced_as_text() {
    let rule = with_path(PathMatch::StringPrefix("/v1/".into()));
    let rewrite = PathRewrite::StringPrefix("/".into());
    assert_eq!(rewrite_path(&rule, &rewrite, "/v1/x"), "/x");
    let rewrite = PathRewrite::StringPrefix("".into());
    assert_eq!(
        rewrite_path(&rule, &rewrite, "/v1/x"),
        "/x",
        "a path begins with /"
    );
}

#[test]
fn a_location_takes_from_the_request_what_the_redirect_leaves_open() {
    let redirect = Redirect {
        scheme: None,
        hostname: None,
        port: RedirectPort::Unsaid,
        path: None,
        status: StatusCode::FOUND,
    };
    let (https, host) = (Some(Arc::from("https")), Some(Arc::from("example.org")));
    for (redirect, port, expected) in [
        (redirect.clone(), 80, "http://Web/a?q=1"),
        (redirect.clone(), 8080, "http://Web:8080/a?q=1"),
        (
            Redirect {
                scheme: https.clone(),
                ..redirect.clone()
            },
            8080,
            "https://Web/a?q=1",
        ),
        (
            Redirect {
                port: RedirectPort::Number(443),
                scheme: https,
                ..redirect.clone()
            },
            80,
            "https://Web/a?q=1",
        ),
        (
            Redirect {
                port: RedirectPort::Number(81),
                hostname: host,
                ..redirect.clone()
            },
            80,
            "http://example.org:81/a?q=1",
        ),
        (
            Redirect {
                path: Some(PathRewrite::Full("/b".into())),
                ..redirect
            },
            80,
            "http://Web/b?q=1",
        ),
    ] {
        let headers = HeaderMap::new();
        let request = RequestView {
            query: Some("q=1"),
            ..get("/a", &headers)
        };
        let rule = rule(Match::default());
        assert_eq!(location(&rule, &redirect, &request, port), expected);
    }
}

#[test]
fn a_redirect_may_keep_the_port_whatever_its_scheme() {
    let headers = HeaderMap::new();
    let rule = rule(Match::default());
    for (said, port, expected) in [
        (RedirectPort::Asked, 8080, "https://Web:8080/a"),
        (RedirectPort::Asked, 443, "https://Web/a"),
        (RedirectPort::Asked, 80, "https://Web:80/a"),
        (RedirectPort::AskedUnlessDefault, 8080, "https://Web:8080/a"),
        (RedirectPort::AskedUnlessDefault, 80, "https://Web/a"),
    ] {
        let redirect = Redirect {
            scheme: Some("https".into()),
            hostname: None,
            port: said,
            path: None,
            status: StatusCode::FOUND,
        };
        let found = location(&rule, &redirect, &get("/a", &headers), port);
        assert_eq!(found, expected);
    }
}

fn shares(weights: &[u32]) -> Vec<WeightedDestination> {
    let of = |(id, weight): (u32, &u32)| {
        WeightedDestination::plain(*weight, Destination::Cluster(ClusterId(id)))
    };
    (0..).zip(weights).map(of).collect()
}

fn chosen(destinations: &[WeightedDestination], draw: u32) -> Option<usize> {
    let found = choose(destinations, draw)?;
    destinations.iter().position(|one| std::ptr::eq(one, found))
}

#[test]
fn draws_are_shared_out_by_weight() {
    let destinations = shares(&[1, 0, 3]);
    let mut counts = [0_u32; 3];
    for step in 0..1_000 {
        let index = chosen(&destinations, step * (u32::MAX / 1_000));
        counts[index.expect("a destination")] += 1;
    }
    assert_eq!(counts[1], 0);
    assert!((249..=251).contains(&counts[0]), "{counts:?}");
    assert_eq!(chosen(&destinations, u32::MAX), Some(2));
    assert_eq!(chosen(&shares(&[0, 0]), 7), None);
    assert_eq!(chosen(&shares(&[0]), 7), None);
    assert_eq!(chosen(&[], 7), None);
}

proptest::proptest! {
    #[test]
    fn a_destination_without_a_share_is_never_chosen(
        weights in proptest::collection::vec(0_u32..5, 1..8),
        draw: u32,
    ) {
        let destinations = shares(&weights);
        let found = chosen(&destinations, draw);
        proptest::prop_assert_eq!(found.is_some(), weights.iter().any(|weight| *weight > 0));
        proptest::prop_assert!(found.is_none_or(|index| weights[index] > 0));
    }
}
