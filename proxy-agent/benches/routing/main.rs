//! What it costs to find a request's rule among 10, 1,000 and 10,000, beside a look through all of
//! them, and to bring a path into its normal form: `cargo bench -p proxy-agent --bench routing`.
#![expect(clippy::expect_used, reason = "a bench has nobody to report to")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proxy_agent::model::{
    Action, HeaderMatch, Match, PathMatch, RouteTable, Rule, StringMatch, Timeouts,
};
use proxy_agent::route::{RequestView, normalise};
use regex::Regex;

/// Numbers of rules on one host.
const SIZES: [usize; 3] = [10, 1_000, 10_000];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    of_kind(&mut criterion, "exact path", exact);
    of_kind(&mut criterion, "prefix", prefix);
    of_kind(&mut criterion, "regular expression", expression);
    of_kind(&mut criterion, "header", header);
    let mut paths = criterion.benchmark_group("normal form");
    for path in [
        "/api/v1/users/1234/orders",
        "/api/v1/a%2Fb/orders%20of",
        "/api//v1/../users/%7Ejoe",
    ] {
        paths.bench_function(path, |bencher| {
            bencher.iter(|| normalise(black_box(path)).map(|path| path.len()));
        });
    }
    paths.finish();
    criterion.final_summary();
}

/// The rule in the middle is found, by table and by a look through all, and none of them.
fn of_kind(criterion: &mut Criterion, name: &str, make: fn(usize) -> Match) {
    let mut group = criterion.benchmark_group(name);
    for size in SIZES {
        let rules = (0..size).map(|number| rule(make(number))).collect();
        let table = RouteTable::new("bench".into(), rules);
        for (what, number) in [("found", size / 2), ("none", size + 1)] {
            let path = format!("/team-{number}/service/path");
            let mut headers = HeaderMap::new();
            let user = HeaderValue::from_str(&format!("user-{number}")).expect("a value");
            headers.insert(HeaderName::from_static("x-user"), user);
            let request = RequestView {
                method: &Method::GET,
                path: &path,
                query: None,
                authority: "web",
                headers: &headers,
                client: None,
            };
            group.bench_with_input(
                BenchmarkId::new(what, size),
                &request,
                |bencher, request| {
                    bencher.iter(|| table.find(black_box(request)).is_some());
                },
            );
            let scan = format!("{what}, all looked at");
            group.bench_with_input(
                BenchmarkId::new(scan, size),
                &request,
                |bencher, request| {
                    bencher.iter(|| {
                        let mut rules = table.rules.iter();
                        rules.any(|rule| rule.conditions.holds(black_box(request)))
                    });
                },
            );
        }
    }
    group.finish();
}

fn exact(number: usize) -> Match {
    of_path(PathMatch::Exact(
        format!("/team-{number}/service/path").into(),
    ))
}

fn prefix(number: usize) -> Match {
    of_path(PathMatch::ElementPrefix(format!("/team-{number}").into()))
}

fn expression(number: usize) -> Match {
    let expression = format!("^(?:/team-{number}/[a-z]+/path)$");
    of_path(PathMatch::Regex(
        Regex::new(&expression).expect("an expression"),
    ))
}

fn header(number: usize) -> Match {
    Match {
        headers: vec![HeaderMatch {
            name: HeaderName::from_static("x-user"),
            value: StringMatch::Exact(format!("user-{number}").into()),
        }],
        ..of_path(PathMatch::ElementPrefix("".into()))
    }
}

fn of_path(path: PathMatch) -> Match {
    Match {
        path: Some(path),
        ..Match::default()
    }
}

fn rule(conditions: Match) -> Rule {
    Rule {
        object: None,
        field: "".into(),
        conditions,
        action: Arc::new(Action::Respond {
            status: StatusCode::NOT_FOUND,
            reason: "bench",
        }),
        timeouts: Timeouts::default(),
        policies: None,
    }
}
