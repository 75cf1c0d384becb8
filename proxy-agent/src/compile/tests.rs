//! Compilation, by table. Each file is one dialect or concern.

mod annotations;
mod capture;
mod destinations;
mod dialects;
mod direct;
mod direct_routes;
mod gateway_api;
mod gateway_faults;
mod grpc;
mod incremental;
mod istio;
mod istio_policies;
mod istio_routes;
mod linkerd;
mod linkerd_routes;
mod nearby;
mod paths;
mod policies;
mod route_parents;
mod service;
mod service_entries;
mod service_profile;
mod smi;
mod stable;
mod streams;
mod subsets;
mod traffic_policies;
mod traffic_policy_clients;
mod unread;

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Compiler, Options};
use crate::model::{Action, Destination, Listener, RouteTable, Snapshot};
use crate::objects::{Format, ObjectSet, Origin, parse};
use crate::route::{Client, Greeting, RequestView, rewrite_path};

/// One source that holds `text`.
fn set(text: &str, origin: Origin) -> Arc<ObjectSet> {
    let parsed = parse(text, &Arc::from("t.yaml"), Format::Yaml);
    let mut set = ObjectSet::unsynced("test".into(), origin);
    set.objects = parsed.objects.into_iter().map(Arc::new).collect();
    set.problems = parsed.problems;
    Arc::new(set)
}

fn compile(text: &str) -> Snapshot {
    Compiler::default().compile(&[set(text, Origin::Files)], &Options::default())
}

fn problems(snapshot: &Snapshot) -> Vec<String> {
    snapshot.problems.iter().map(ToString::to_string).collect()
}

/// The one problem, without its place.
fn only_problem(snapshot: &Snapshot) -> String {
    let [problem] = &snapshot.problems[..] else {
        panic!("one problem expected: {:#?}", problems(snapshot));
    };
    problem
        .to_string()
        .split_once(": ")
        .map(|(_, rest)| rest.to_owned())
        .unwrap_or_default()
}

fn listener<'a>(snapshot: &'a Snapshot, service: &str, port: u16) -> &'a Listener {
    let mut all = snapshot.listeners.iter();
    let found = all.find(|one| &*one.service == service && one.port == port);
    found.unwrap_or_else(|| panic!("no listener {service}:{port}"))
}

fn endpoints(snapshot: &Snapshot, cluster: &str) -> Vec<String> {
    let mut clusters = snapshot.clusters.iter();
    let found = clusters.find(|one| &*one.name == cluster);
    let found = found.unwrap_or_else(|| panic!("no cluster {cluster}"));
    found
        .endpoints
        .iter()
        .map(|one| one.address.to_string())
        .collect()
}

/// A Service with one port and no selector.
fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: ns}}\n\
         spec: {{ports: [{{port: {port}}}]}}\n---\n"
    )
}

/// A pod that is ready, with the labels `app: <name>`.
fn pod(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: ns, uid: uid-{name}, labels: {{app: {name}}}}}\n\
         spec: {{containers: [{{name: c, ports: [{{name: web, containerPort: 8080}}]}}]}}\n\
         status: {{podIP: {ip}, conditions: [{{type: Ready, status: 'True'}}]}}\n---\n"
    )
}

/// A request as a line: `METHOD path[?query] [header=value …]`.
fn ask(table: &RouteTable, snapshot: &Snapshot, line: &str) -> String {
    let mut words = line.split(' ');
    let method: Method = words.next().unwrap_or_default().parse().expect("a method");
    let target = words.next().unwrap_or_default();
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(p, q)| (p, Some(q)));
    let mut headers = HeaderMap::new();
    let mut authority = "web";
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        if name == "authority" {
            authority = value;
            continue;
        }
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    let request = RequestView {
        method: &method,
        path,
        query,
        authority,
        headers: &headers,
        client: None,
    };
    match table.find(&request) {
        None => "404".to_owned(),
        Some(rule) => outcome(&rule.action, snapshot),
    }
}

/// An action as a line: clusters with their weights, a redirect's status, or a status.
fn outcome(action: &Action, snapshot: &Snapshot) -> String {
    match action {
        Action::Forward { destinations, .. } => {
            let mut text = String::new();
            for one in destinations {
                let name = match one.destination {
                    Destination::Redirect(_) => "redirect",
                    Destination::Cluster(id) => snapshot.cluster(id).map_or("gone", |c| &c.name),
                    Destination::Invalid => "invalid",
                };
                let separator = if text.is_empty() { "" } else { " " };
                write!(text, "{separator}{name}*{}", one.weight).expect("a string");
            }
            text
        }
        Action::Redirect { redirect, .. } => format!("redirect {}", redirect.status.as_u16()),
        Action::Direct { status, .. } => format!("direct {}", status.as_u16()),
        Action::Respond { status, reason } => format!("{} {reason}", status.as_u16()),
    }
}
