//! Random requests, from so few words that conditions made of the same words often hold.

use std::collections::BTreeMap;

use proptest::collection::btree_map;
use proptest::prelude::*;
use proptest::sample::select;

use crate::scene::{Case, Several};

/// A request as plain values.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Method.
    pub(crate) method: &'static str,
    /// Path.
    pub(crate) path: String,
    /// Headers, one value each.
    pub(crate) headers: BTreeMap<&'static str, &'static str>,
    /// Query parameters, one value each.
    pub(crate) query: BTreeMap<&'static str, &'static str>,
}

impl Sent {
    /// The request to `service`, from a pod of namespace `shop`.
    pub(crate) fn to(&self, service: &str) -> Case {
        let query: Vec<_> = self
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let query = match query.join("&") {
            none if none.is_empty() => none,
            some => format!("?{some}"),
        };
        let ask = format!("{} http://{service}{}{query}", self.method, self.path);
        let headers = self.headers.iter();
        let headers =
            headers.map(|(name, value)| ((*name).to_owned(), Several::One((*value).to_owned())));
        Case::of(ask, "shop/client", headers.collect())
    }
}

/// Methods.
pub(crate) fn method() -> impl Strategy<Value = &'static str> {
    select(&["GET", "POST", "PUT"][..])
}

/// Paths of up to three elements.
pub(crate) fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => prop::collection::vec(select(&["a", "b", "ab"][..]), 0..4)
            .prop_map(|elements| format!("/{}", elements.join("/"))),
        1 => Just("/a/".to_owned()),
    ]
}

/// Values of some names.
pub(crate) fn values(
    names: &'static [&'static str],
) -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    btree_map(select(names), select(&["1", "2"][..]), 0..names.len())
}

/// Names of headers.
pub(crate) const HEADERS: &[&str] = &["x-a", "x-b", "x-c"];
/// Names of query parameters.
pub(crate) const PARAMETERS: &[&str] = &["p", "q", "r"];

/// Requests.
pub(crate) fn sent() -> impl Strategy<Value = Sent> {
    (method(), path(), values(HEADERS), values(PARAMETERS)).prop_map(
        |(method, path, headers, query)| Sent {
            method,
            path,
            headers,
            query,
        },
    )
}
