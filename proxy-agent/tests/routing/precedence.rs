//! Gateway API's precedence against a judge of its own: HTTPRouteRule.matches of the v1 reference.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::answer::Asked;
use crate::requests::{HEADERS, PARAMETERS, Sent, method, path, sent, values};
use crate::scene::compile;

/// A route: when it was made, and its rules' matches.
#[derive(Clone, Debug)]
struct Route {
    year: Option<u16>,
    rules: Vec<Vec<Conditions>>,
}

#[derive(Clone, Debug)]
struct Conditions {
    exact: bool,
    path: Option<String>,
    method: Option<&'static str>,
    headers: BTreeMap<&'static str, &'static str>,
    query: BTreeMap<&'static str, &'static str>,
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let path = option::weighted(0.8, path());
    let method = option::weighted(0.3, method());
    let (headers, query) = (values(HEADERS), values(PARAMETERS));
    (any::<bool>(), path, method, headers, query).prop_map(
        |(exact, path, method, headers, query)| Conditions {
            exact,
            path,
            method,
            headers,
            query,
        },
    )
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let rules = vec(vec(conditions(), 0..4), 1..4);
    let route = (option::of(2020_u16..2023), rules);
    vec(route.prop_map(|(year, rules)| Route { year, rules }), 1..5)
}

impl Conditions {
    fn hold(&self, sent: &Sent) -> bool {
        let path = self.path.as_deref().unwrap_or("/");
        let path_holds = if self.exact && self.path.is_some() {
            sent.path == path
        } else {
            let elements = |text: &str| -> Vec<String> {
                let text = text.strip_prefix('/').unwrap_or(text);
                text.split('/').map(str::to_owned).collect()
            };
            let mut wanted = elements(path);
            // A trailing `/` of the prefix is ignored.
            wanted.retain(|element| !element.is_empty());
            elements(&sent.path).starts_with(&wanted)
        };
        let of = |wanted: &BTreeMap<_, _>, found: &BTreeMap<_, _>| {
            wanted
                .iter()
                .all(|(name, value)| found.get(name) == Some(value))
        };
        path_holds
            && self.method.is_none_or(|method| method == sent.method)
            && of(&self.headers, &sent.headers)
            && of(&self.query, &sent.query)
    }

    /// The greater the more specific: the reference's list, word by word.
    fn rank(&self) -> (bool, usize, bool, usize, usize) {
        let exact = self.exact && self.path.is_some();
        let length = self
            .path
            .as_deref()
            .map_or(0, |path| path.trim_end_matches('/').len());
        let length = if exact { 0 } else { length };
        (
            exact,
            length,
            self.method.is_some(),
            self.headers.len(),
            self.query.len(),
        )
    }

    fn json(&self) -> Value {
        let pairs = |of: &BTreeMap<&str, &str>| -> Vec<Value> {
            let pairs = of.iter();
            pairs
                .map(|(name, value)| json!({ "name": name, "value": value }))
                .collect()
        };
        let mut json =
            json!({ "headers": pairs(&self.headers), "queryParams": pairs(&self.query) });
        if let Some(path) = &self.path {
            let kind = if self.exact { "Exact" } else { "PathPrefix" };
            json["path"] = json!({ "type": kind, "value": path });
        }
        if let Some(method) = self.method {
            json["method"] = json!(method);
        }
        json
    }
}

/// The rule that the reference names, as `name rules[0]`.
fn judged(routes: &[Route], sent: &Sent) -> String {
    let matching = routes.iter().enumerate().flat_map(|(number, route)| {
        route
            .rules
            .iter()
            .enumerate()
            .flat_map(move |(index, rule)| {
                let everything = Conditions {
                    exact: false,
                    path: None,
                    method: None,
                    headers: BTreeMap::new(),
                    query: BTreeMap::new(),
                };
                let matches = if rule.is_empty() {
                    vec![everything]
                } else {
                    rule.clone()
                };
                let holding = matches.into_iter().filter(|one| one.hold(sent));
                holding.map(move |one| {
                    // The oldest first, then by name, then by position; without an age last.
                    let age = route.year.unwrap_or(u16::MAX);
                    (one.rank(), Reverse((age, number, index)))
                })
            })
    });
    matching.max().map_or_else(
        || "none".to_owned(),
        |(_, Reverse((_, number, index)))| format!("route-{number} rules[{index}]"),
    )
}

fn manifests(routes: &[Route]) -> String {
    let mut items = vec![json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }] },
    })];
    for (number, route) in routes.iter().enumerate() {
        let rules = route.rules.iter().map(|rule| {
            let matches: Vec<_> = rule.iter().map(Conditions::json).collect();
            json!({ "matches": matches, "backendRefs": [{ "name": "web", "port": 80 }] })
        });
        let mut metadata = json!({ "name": format!("route-{number}"), "namespace": "shop" });
        if let Some(year) = route.year {
            metadata["creationTimestamp"] = json!(format!("{year}-01-01T00:00:00Z"));
        }
        items.push(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": metadata,
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "web" }],
                "rules": rules.collect::<Vec<_>>(),
            },
        }));
    }
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

proptest! {
    #[test]
    fn the_rule_is_the_one_that_the_reference_names(
        routes in routes(),
        requests in vec(sent(), 1..30),
    ) {
        let snapshot = compile(&manifests(&routes), "routes");
        prop_assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
        for sent in requests {
            let case = sent.to("web");
            let facts = Asked::new(&snapshot, &case, "shop/client").facts();
            prop_assert_eq!(&facts["rule"], &judged(&routes, &sent), "{:?}", sent);
        }
    }
}

#[test]
fn the_judge_tells_rules_apart() {
    let one = |path: &str, exact| {
        vec![Conditions {
            exact,
            path: Some(path.to_owned()),
            method: None,
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
        }]
    };
    let routes = [Route {
        year: None,
        rules: vec![one("/a", false), one("/a/b", false), one("/a/b", true)],
    }];
    for (path, rule) in [
        ("/a", "route-0 rules[0]"),
        ("/a/b", "route-0 rules[2]"),
        ("/a/b/a", "route-0 rules[1]"),
        ("/ab", "none"),
    ] {
        let sent = Sent {
            method: "GET",
            path: path.to_owned(),
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
        };
        assert_eq!(judged(&routes, &sent), rule, "{path}");
    }
}
