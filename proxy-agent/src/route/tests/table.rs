//! Tables find what a look through all of their rules finds, and look at few of them.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use regex::Regex;

use super::{get, rule, with_path};
use crate::model::{HeaderMatch, Match, MethodMatch, PathMatch, RouteTable, Rule, StringMatch};
use crate::route::RequestView;

/// The rule that a look through all of them finds.
fn scan<'a>(rules: &'a [Rule], request: &RequestView<'_>) -> Option<&'a Rule> {
    rules.iter().find(|rule| rule.conditions.holds(request))
}

/// The rule that a table finds, and how many it looked at.
fn counted<'a>(table: &'a RouteTable, request: &RequestView<'_>) -> (Option<&'a Rule>, usize) {
    let mut looked_at = 0;
    let found = table.first(request.path, request.headers, |rule| {
        looked_at += 1;
        rule.conditions.holds(request)
    });
    (found, looked_at)
}

fn table(rules: impl IntoIterator<Item = Rule>) -> RouteTable {
    RouteTable::new("test".into(), rules.into_iter().collect())
}

fn full(expression: &str) -> PathMatch {
    PathMatch::Regex(Regex::new(&format!("^(?:{expression})$")).expect("an expression"))
}

fn header(name: &str, value: StringMatch) -> HeaderMatch {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
    HeaderMatch { name, value }
}

fn with_header(name: &str, value: &str) -> Rule {
    rule(Match {
        headers: vec![header(name, StringMatch::Exact(value.into()))],
        ..Match::default()
    })
}

fn sent(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

/// How many of `number` rules are looked at for the request that only the last but one matches.
fn examined(number: usize, make: impl Fn(usize) -> Rule, request: &RequestView<'_>) -> usize {
    let table = table((0..number).map(make).chain([rule(Match::default())]));
    let (found, looked_at) = counted(&table, request);
    let expected = &table.rules[number - 1];
    assert!(found.is_some_and(|found| std::ptr::eq(found, expected)));
    looked_at
}

#[test]
fn as_few_rules_are_looked_at_in_a_large_table_as_in_a_small_one() {
    for number in [10, 1_000, 10_000] {
        let last = number - 1;
        let none = HeaderMap::new();
        let path = format!("/team/{last}/x");
        let (exact, request) = (format!("/Team/{last}/x"), get(&path, &none));
        let of_path = |path: fn(String) -> PathMatch| {
            move |place: usize| with_path(path(format!("/team/{place}")))
        };
        let exacts = |place: usize| with_path(PathMatch::Exact(format!("/team/{place}/x").into()));
        assert!(examined(number, exacts, &request) <= 2);
        let any_case =
            |place: usize| with_path(PathMatch::ExactAnyCase(format!("/team/{place}/x").into()));
        assert!(examined(number, any_case, &get(&exact, &none)) <= 2);
        for make in [
            of_path(|path| PathMatch::ElementPrefix(path.into())),
            of_path(|path| PathMatch::StringPrefix(format!("{path}/").into())),
            of_path(|path| PathMatch::StringPrefixAnyCase(format!("{path}/").into())),
            of_path(|path| full(&format!("{path}/[a-z]+"))),
        ] {
            // `/team/9`, `/team/99` and so on come into question for `/team/999/x`.
            assert!(examined(number, make, &request) <= 6);
        }
        let (value, other) = (last.to_string(), sent(&[("x-user", "nobody")]));
        let headers = sent(&[("x-user", &value)]);
        let users = |place: usize| with_header("x-user", &place.to_string());
        assert!(examined(number, users, &get("/", &headers)) <= 2);
        let all = table((0..number).map(users));
        let (found, looked_at) = counted(&all, &get("/", &other));
        assert!(found.is_none() && looked_at == 0);
    }
}

#[test]
fn rules_that_nothing_tells_apart_are_tried_in_order() {
    let gets = |place: usize| {
        let method = if place == 50 {
            Method::GET
        } else {
            Method::PUT
        };
        rule(Match {
            method: Some(MethodMatch::Exact(method)),
            ..Match::default()
        })
    };
    let table = table((0..100).map(gets));
    let (found, looked_at) = counted(&table, &get("/", &HeaderMap::new()));
    assert!(found.is_some_and(|found| std::ptr::eq(found, &table.rules[50])));
    assert_eq!(looked_at, 51);
}

#[test]
fn a_header_in_several_parts_is_found_by_the_whole() {
    let users = (0..20).map(|place| with_header("x-user", &format!("a,{place}")));
    let table = table(users);
    let headers = sent(&[("x-user", "a"), ("x-user", "7")]);
    let (found, _) = counted(&table, &get("/", &headers));
    assert!(found.is_some_and(|found| std::ptr::eq(found, &table.rules[7])));
}

fn paths() -> impl Strategy<Value = Option<PathMatch>> {
    let text = "(/|/[abAB]{1,2}){0,3}";
    let of = |make: fn(String) -> PathMatch| text.prop_map(move |path| Some(make(path)));
    prop_oneof![
        Just(None),
        of(|path| PathMatch::Exact(path.into())),
        of(|path| PathMatch::ExactAnyCase(path.into())),
        of(|path| PathMatch::ElementPrefix(path.trim_end_matches('/').into())),
        of(|path| PathMatch::StringPrefix(path.into())),
        of(|path| PathMatch::StringPrefixAnyCase(path.into())),
        of(|path| full(&format!("{path}b?.*"))),
        of(|path| full(&format!("{path}|/a/b"))),
        of(|path| full(&format!("(?i){path}b*"))),
    ]
}

fn values() -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        "[xyX]{1,2}(,x)?".prop_map(|value| StringMatch::Exact(value.into())),
        "[xy]".prop_map(|value| StringMatch::Prefix(value.into())),
        Just(StringMatch::Present),
    ]
}

fn conditions() -> impl Strategy<Value = Match> {
    let headers = prop::collection::vec(("h[12]", values()), 0..3);
    (paths(), headers, any::<bool>()).prop_map(|(path, headers, method)| Match {
        path,
        method: method.then_some(MethodMatch::Exact(Method::GET)),
        headers: headers
            .into_iter()
            .map(|(name, value)| header(&name, value))
            .collect(),
        ..Match::default()
    })
}

proptest! {
    #[test]
    fn a_table_finds_what_a_look_through_all_rules_finds(
        all in prop::collection::vec(conditions(), 0..40),
        path in "(/|/[abABc]{1,3}){1,4}",
        fields in prop::collection::vec(("h[123]", "[xyXz]{1,2}"), 0..4),
        get in any::<bool>(),
    ) {
        let table = table(all.into_iter().map(rule));
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let headers = sent(&fields);
        let request = RequestView {
            method: if get { &Method::GET } else { &Method::PUT },
            ..super::get(&path, &headers)
        };
        let place = |rule: &Rule| table.rules.iter().position(|one| std::ptr::eq(one, rule));
        let expected = scan(&table.rules, &request).and_then(place);
        prop_assert_eq!(table.find(&request).and_then(place), expected);
    }
}
