//! What would happen to a request, and why: the same tables that serve, asked in words.
//!
//! Pure: it reads a snapshot and never the network, so what it says of names holds for names as
//! Kubernetes resolves them.

mod describe;
mod policies;
mod resolve;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::uri::InvalidUri;
use http::{HeaderMap, Method, Uri, header};

use self::resolve::Resolved;
use crate::model::{
    Action, CaptureDecision, Destination, Listener, ListenerProtocol, ListenerVerdict, Pod,
    RouteTable, Rule, Snapshot, WeightedDestination,
};
use crate::route::{Client, RequestView, location, virtual_host};
use crate::status::{ExplainedCluster, Explanation};

pub use describe::describe;
pub use streams::describe as describe_stream;

/// Rules that did not match are named up to this many.
const MAX_NEAR_MISSES: usize = 8;

/// A request to be explained.
#[derive(Clone, Debug)]
pub struct Query {
    /// Namespace of the client pod.
    pub namespace: String,
    /// Name of the client pod.
    pub pod: String,
    /// Method.
    pub method: Method,
    /// URL; `http://` if it has no scheme.
    pub url: String,
    /// Headers; `host` stands for the URL's host where it is there.
    pub headers: HeaderMap,
}

/// Why a request cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none: write it as in `http://web.shop:8080/path?query`.
    #[error("`{url}` is no URL; expected one as in http://web.shop:8080/path")]
    Url {
        /// What was given.
        url: String,
        /// Why.
        source: InvalidUri,
    },
    /// The URL names no host.
    #[error("`{url}` names no host; expected a URL as in http://web.shop:8080/path")]
    NoHost {
        /// What was given.
        url: String,
    },
}

/// Explains what would happen to a request.
///
/// # Errors
/// The URL is malformed. A host or pod that is not known is part of the explanation instead.
pub fn explain(snapshot: &Snapshot, query: &Query) -> Result<Explanation, Error> {
    let uri = parse(&query.url)?;
    let Some(host) = uri.host() else {
        return Err(Error::NoHost {
            url: query.url.clone(),
        });
    };
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let sent = query
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let mut pods = snapshot.pods.values();
    let pod = pods.find(|pod| *pod.namespace == *query.namespace && *pod.name == *query.pod);
    let client = Client {
        namespace: &query.namespace,
        uid: pod.map_or("", |pod| &pod.uid),
        labels: &snapshot.pod_labels,
    };
    let request = RequestView {
        method: &query.method,
        path: uri.path(),
        query: uri.query(),
        authority: sent.unwrap_or(host),
        headers: &query.headers,
        client: Some(client),
    };
    let mut answer = Explanation {
        from: from(pod, query),
        ..Explanation::default()
    };
    let virtual_host = virtual_host(snapshot, &query.namespace, request.authority);
    match resolve::resolve(snapshot, &query.namespace, host, port) {
        Resolved::Listener(listener) => {
            let address = listener.addresses.first().map(ToString::to_string);
            answer.address = address.unwrap_or_default();
            let (namespace, service) = (&listener.namespace, &listener.service);
            answer.listener = format!("{namespace}/{service}:{}", listener.port);
            answer.verdict = verdict(listener);
            let http = listener.verdict == ListenerVerdict::Proxy(ListenerProtocol::Http);
            if http && !tls && !streams::take_all(listener, &query.namespace) {
                let table = virtual_host.unwrap_or_else(|| listener.routes_for(&query.namespace));
                route(snapshot, table, &request, port, &mut answer);
            } else if matches!(listener.verdict, ListenerVerdict::Proxy(_)) {
                let greeting = streams::greeting(tls.then_some(host));
                streams::explain(snapshot, listener, greeting, &client, &mut answer);
            }
        }
        Resolved::Passes(reason) => match virtual_host {
            Some(table) => {
                "proxy (http), on any HTTP port that is captured: the host is a virtual one"
                    .clone_into(&mut answer.verdict);
                route(snapshot, table, &request, port, &mut answer);
            }
            None => answer.verdict = format!("pass: {reason}"),
        },
    }
    Ok(answer)
}

fn parse(url: &str) -> Result<Uri, Error> {
    let whole = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    whole.parse().map_err(|source| Error::Url {
        url: url.to_owned(),
        source,
    })
}

fn from(pod: Option<&Arc<Pod>>, query: &Query) -> String {
    let state = match pod.map(|pod| pod.capture) {
        None => "not known: no source names such a pod with a uid".to_owned(),
        Some(CaptureDecision::Capture { .. }) => "captured".to_owned(),
        Some(CaptureDecision::LeaveAlone(reason)) => {
            format!(
                "not captured ({}): what follows would hold if it were",
                reason.name()
            )
        }
    };
    format!("{}/{}: {state}", query.namespace, query.pod)
}

fn verdict(listener: &Listener) -> String {
    match listener.verdict {
        ListenerVerdict::Proxy(ListenerProtocol::Http) => "proxy (http)".to_owned(),
        ListenerVerdict::Proxy(ListenerProtocol::Tcp) => "proxy (opaque TCP)".to_owned(),
        ListenerVerdict::Pass(reason) => format!("pass ({})", reason.name()),
    }
}

fn route(
    snapshot: &Snapshot,
    table: &RouteTable,
    request: &RequestView<'_>,
    port: u16,
    answer: &mut Explanation,
) {
    for rule in &table.rules {
        let Some(unmet) = rule.conditions.unmet(request) else {
            answer.route = match &rule.object {
                None => "implicit: the Service has no route".to_owned(),
                Some(object) => format!("{object} {}", rule.field),
            };
            act(snapshot, rule, request, port, answer);
            return;
        };
        if answer.near_misses.len() < MAX_NEAR_MISSES {
            let miss = describe::miss(rule, unmet, request);
            answer.near_misses.push(miss);
        }
    }
    answer.route = format!("no rule of {} matches", table.origin);
    answer.action.push("answers 404 (no_route)".to_owned());
}

fn act(
    snapshot: &Snapshot,
    rule: &Rule,
    request: &RequestView<'_>,
    port: u16,
    answer: &mut Explanation,
) {
    answer.action = describe::action(rule, request, snapshot);
    match &*rule.action {
        Action::Forward { destinations, .. } => answer.clusters = clusters(snapshot, destinations),
        Action::Redirect { redirect, .. } => {
            let to = location(rule, redirect, request, port);
            answer
                .action
                .push(format!("answers {} to {to}", redirect.status.as_u16()));
        }
        Action::Direct { status, .. } => {
            let status = status.as_u16();
            answer
                .action
                .push(format!("answers {status} (direct_response)"));
        }
        Action::Respond { status, reason } => {
            answer
                .action
                .push(format!("answers {} ({reason})", status.as_u16()));
        }
    }
}

fn clusters(snapshot: &Snapshot, destinations: &[WeightedDestination]) -> Vec<ExplainedCluster> {
    let total: f64 = destinations.iter().map(|one| f64::from(one.weight)).sum();
    let explained = destinations.iter().map(|one| {
        let mut explained = ExplainedCluster {
            share_percent: 100.0 * f64::from(one.weight) / total.max(1.0),
            ..ExplainedCluster::default()
        };
        match one.destination {
            Destination::Redirect(_) => "a redirect".clone_into(&mut explained.name),
            Destination::Invalid => {
                "invalid reference: answers 500 (invalid_backend)".clone_into(&mut explained.name)
            }
            Destination::Cluster(id) => {
                if let Some(cluster) = snapshot.cluster(id) {
                    explained.name = cluster.name.to_string();
                    cluster.balance.name().clone_into(&mut explained.balance);
                    let endpoints = cluster.endpoints.iter();
                    explained.endpoints = endpoints.map(|one| one.address.to_string()).collect();
                }
            }
        }
        explained
    });
    explained.collect()
}
