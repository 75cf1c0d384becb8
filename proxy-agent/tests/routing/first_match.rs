//! Istio's order against a judge of its own: the first route that matches, VirtualService.http.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::answer::Asked;
use crate::requests::{HEADERS, PARAMETERS, Sent, method, path, sent, values};
use crate::scene::compile;

#[derive(Clone, Copy, Debug)]
enum How {
    Exact,
    Prefix,
    Regex,
}

#[derive(Clone, Debug)]
struct Conditions {
    uri: Option<(How, bool, String)>,
    method: Option<&'static str>,
    headers: BTreeMap<&'static str, &'static str>,
    without: BTreeMap<&'static str, &'static str>,
    query: BTreeMap<&'static str, &'static str>,
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let how = prop_oneof![Just(How::Exact), Just(How::Prefix), Just(How::Regex)];
    let uri = option::weighted(0.8, (how, any::<bool>(), path()));
    let method = option::weighted(0.3, method());
    let header = || values(HEADERS);
    (uri, method, header(), header(), values(PARAMETERS)).prop_map(
        |(uri, method, headers, without, query)| Conditions {
            uri,
            method,
            headers,
            without,
            query,
        },
    )
}

impl Conditions {
    fn hold(&self, sent: &Sent) -> bool {
        let uri = self.uri.as_ref().is_none_or(|(how, any_case, text)| {
            let found = sent.path.as_str();
            match (how, any_case) {
                (How::Exact, false) => found == text,
                (How::Exact, true) => found.to_lowercase() == text.to_lowercase(),
                (How::Prefix, false) => found.starts_with(text.as_str()),
                (How::Prefix, true) => found.to_lowercase().starts_with(&text.to_lowercase()),
                // `TEXT|TEXT/b`, of the whole path.
                (How::Regex, _) => found == text || found.strip_suffix("/b") == Some(text),
            }
        });
        let mut headers = self.headers.iter();
        let mut without = self.without.iter();
        let mut query = self.query.iter();
        uri && self.method.is_none_or(|method| method == sent.method)
            && headers.all(|(name, value)| sent.headers.get(name) == Some(value))
            && !without.any(|(name, value)| sent.headers.get(name) == Some(value))
            && query.all(|(name, value)| sent.query.get(name) == Some(value))
    }

    fn json(&self) -> Value {
        let exact = |of: &BTreeMap<&str, &str>| -> BTreeMap<String, Value> {
            let pairs = of.iter();
            pairs
                .map(|(name, value)| ((*name).to_owned(), json!({ "exact": value })))
                .collect()
        };
        let mut json = json!({
            "headers": exact(&self.headers),
            "withoutHeaders": exact(&self.without),
            "queryParams": exact(&self.query),
        });
        if let Some((how, any_case, text)) = &self.uri {
            json["uri"] = match how {
                How::Exact => json!({ "exact": text }),
                How::Prefix => json!({ "prefix": text }),
                How::Regex => json!({ "regex": format!("{text}|{text}/b") }),
            };
            json["ignoreUriCase"] = json!(any_case);
        }
        if let Some(method) = self.method {
            json["method"] = json!({ "exact": method });
        }
        json
    }
}

fn manifests(routes: &[Vec<Conditions>]) -> String {
    let http = routes.iter().map(|matches| {
        let matches: Vec<_> = matches.iter().map(Conditions::json).collect();
        json!({ "match": matches, "route": [{ "destination": { "host": "web" } }] })
    });
    let items = [
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }] },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": { "name": "v", "namespace": "shop" },
            "spec": { "hosts": ["web"], "http": http.collect::<Vec<_>>() },
        }),
    ];
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

proptest! {
    #[test]
    fn the_rule_is_the_first_one_that_matches(
        routes in vec(vec(conditions(), 0..3), 1..8),
        requests in vec(sent(), 1..30),
    ) {
        let snapshot = compile(&manifests(&routes), "routes");
        prop_assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
        for sent in requests {
            let holds = |matches: &Vec<Conditions>| {
                matches.is_empty() || matches.iter().any(|one| one.hold(&sent))
            };
            let judged = routes.iter().position(holds);
            let judged = judged.map_or_else(|| "none".to_owned(), |index| format!("v http[{index}]"));
            let case = sent.to("web");
            let facts = Asked::new(&snapshot, &case, "shop/client").facts();
            prop_assert_eq!(&facts["rule"], &judged, "{:?}", sent);
        }
    }
}
