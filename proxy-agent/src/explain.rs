//! What would happen to a request, and why: the same tables that serve, asked in words.
//!
//! Pure: it reads a snapshot and never the network, so what it says of names holds for names as
//! Kubernetes resolves them.

mod describe;
mod destinations;
mod effects;
mod policies;
mod resolve;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::uri::InvalidUri;
use http::{HeaderMap, Method, Uri, header};

use self::destinations::clusters;
use self::resolve::Resolved;
use crate::model::{
    Action, CaptureDecision, Destination, Listener, ListenerProtocol, ListenerVerdict, Pod,
    RouteTable, Rule, Snapshot,
};
use crate::proxy::is_grpc;
use crate::route::{Client, RequestView, Unmet, location, normalise, virtual_host};
use crate::status::Explanation;

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
    /// The URL names a port that there is not.
    #[error("`{url}` names no port; accepted: 1 to 65535")]
    Port {
        /// What was given.
        url: String,
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
    let default = if tls { 443 } else { 80 };
    let port = port_of(&uri, query)?.unwrap_or(default);
    let authority = authority(query, host, Some(port).filter(|port| *port != default));
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
        authority: &authority,
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
                answer.shadowed = shadowed(listener, &query.namespace);
                let table = virtual_host.unwrap_or_else(|| listener.routes_for(&query.namespace));
                route(snapshot, table, &request, port, &mut answer);
            } else if !matches!(listener.verdict, ListenerVerdict::Pass(_)) {
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

/// The authority as a client writes it where no `Host` is given: without the port that the scheme
/// has anyway (RFC 9110, section 4.2.3).
fn authority(query: &Query, host: &str, port: Option<u16>) -> String {
    let sent = query.headers.get(header::HOST);
    match (sent.and_then(|host| host.to_str().ok()), port) {
        (Some(sent), _) => sent.to_owned(),
        (None, Some(port)) => format!("{host}:{port}"),
        (None, None) => host.to_owned(),
    }
}

/// The port that a URL names.
fn port_of(uri: &Uri, query: &Query) -> Result<Option<u16>, Error> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = uri.host().unwrap_or_default();
    let behind = authority.rsplit_once(host).map_or("", |(_, behind)| behind);
    match behind.strip_prefix(':').filter(|port| !port.is_empty()) {
        None => Ok(None),
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Ok(Some(port)),
            Ok(_) | Err(_) => Err(Error::Port {
                url: query.url.clone(),
            }),
        },
    }
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
        ListenerVerdict::Direct => "direct (an endpoint, without the agent)".to_owned(),
        ListenerVerdict::Pass(reason) => format!("pass ({})", reason.name()),
    }
}

/// The routes of a listener that others stand before, for clients in `namespace`.
fn shadowed(listener: &Listener, namespace: &str) -> Vec<String> {
    let all = listener.shadowed.iter();
    let seen = all.filter(|one| one.clients.as_ref().is_none_or(|own| **own == *namespace));
    seen.map(|one| format!("{}: {} decides", one.object, one.by))
        .collect()
}

fn route(
    snapshot: &Snapshot,
    table: &RouteTable,
    request: &RequestView<'_>,
    port: u16,
    answer: &mut Explanation,
) {
    answer.origin = table.origin.to_string();
    let path = if table.is_implicit() {
        Ok(request.path.into())
    } else {
        normalise(request.path)
    };
    let Ok(path) = path else {
        let line = answers(400, "bad_request", request.headers);
        return answer.action.push(format!("{line}: the path holds %00"));
    };
    if *path != *request.path {
        answer.path = path.to_string();
    }
    let request = &RequestView {
        path: &path,
        ..*request
    };
    let found = table.find(request);
    let before = table.rules.iter();
    let before = before.take_while(|rule| found.is_none_or(|found| !std::ptr::eq(*rule, found)));
    let misses = before.filter_map(|rule| Some((rule, rule.conditions.unmet(request)?)));
    near_misses(misses.collect(), request, answer);
    let Some(rule) = found else {
        answer.route = format!("no rule of {} matches", table.origin);
        return answer
            .action
            .push(answers(404, "no_route", request.headers));
    };
    answer.route = match &rule.object {
        None => "implicit: the Service has no route".to_owned(),
        Some(object) => format!("{object} {}", rule.field),
    };
    act(snapshot, rule, request, port, answer);
}

/// An answer of the agent's own, as the client sees it: to a gRPC call, it is a status of gRPC.
fn answers(status: u16, reason: &str, headers: &HeaderMap) -> String {
    let grpc = match status {
        _ if !is_grpc(headers) => return format!("answers {status} ({reason})"),
        400 => "13 INTERNAL",
        404 => "12 UNIMPLEMENTED",
        _ => "2 UNKNOWN",
    };
    format!("answers 200 with grpc-status {grpc} ({reason})")
}

/// Names the rules that did not match: a rule whose path holds was nearer than one whose does not.
fn near_misses(
    mut misses: Vec<(&Rule, Unmet)>,
    request: &RequestView<'_>,
    answer: &mut Explanation,
) {
    misses.sort_by_key(|(_, unmet)| *unmet == Unmet::Path);
    answer.more_misses = misses.len().saturating_sub(MAX_NEAR_MISSES);
    let nearest = misses.iter().take(MAX_NEAR_MISSES);
    let lines = nearest.map(|(rule, unmet)| describe::miss(rule, *unmet, request));
    answer.near_misses.extend(lines);
}

fn act(
    snapshot: &Snapshot,
    rule: &Rule,
    request: &RequestView<'_>,
    port: u16,
    answer: &mut Explanation,
) {
    answer.action = effects::of_rule(rule, request, snapshot);
    let client = request.client.map_or("", |client| client.namespace);
    let line = match &*rule.action {
        Action::Forward { destinations, .. } => {
            answer.clusters = clusters(snapshot, destinations, client);
            for (explained, one) in answer.clusters.iter_mut().zip(destinations) {
                explained.action = effects::of_destination(one, rule, request, snapshot);
                if let Destination::Redirect(redirect) = &one.destination {
                    let to = location(rule, redirect, request, port);
                    let status = redirect.status.as_u16();
                    explained.action.push(format!("answers {status} to {to}"));
                }
            }
            return;
        }
        Action::Redirect { redirect, .. } => {
            let to = location(rule, redirect, request, port);
            format!("answers {} to {to}", redirect.status.as_u16())
        }
        Action::Direct { status, .. } => format!("answers {} (direct_response)", status.as_u16()),
        Action::Respond { status, reason } => answers(status.as_u16(), reason, request.headers),
    };
    answer.action.push(line);
}
