//! What the product makes of a request, as facts by name.

use std::collections::BTreeMap;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use proxy_agent::explain::{self, Query};
use proxy_agent::model::{
    Action, Destination, Filters, Listener, ListenerProtocol, ListenerVerdict, ObjectId, Redirect,
    RouteTable, Rule, Snapshot, WeightedDestination,
};
use proxy_agent::route::cors::{self, Ruling};
use proxy_agent::route::{self, Client, Greeting, RequestView};
use proxy_agent::status::Explanation;

use crate::scene::{Case, Several};

/// Facts by name, as `status`, or `sent x-user` for a header.
pub(crate) type Facts = BTreeMap<String, String>;

/// A request that is asked about.
pub(crate) struct Asked<'s> {
    snapshot: &'s Snapshot,
    namespace: String,
    pod: String,
    uid: String,
    url: Uri,
    request: Request<()>,
    /// The destination to take, and what the application answers.
    via: Option<String>,
    app: HeaderMap,
}

impl<'s> Asked<'s> {
    /// Writes the request of a case, as a client would.
    pub(crate) fn new(snapshot: &'s Snapshot, case: &Case, from: &str) -> Self {
        let (method, url) = case.ask.split_once(' ').expect("METHOD URL");
        let url: Uri = url.parse().expect("a URL");
        let from = case.from.as_deref().unwrap_or(from);
        let (namespace, pod) = from.split_once('/').expect("NAMESPACE/POD");
        let mut request = Request::new(());
        *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("a method");
        *request.uri_mut() = url
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .parse()
            .expect("a target");
        *request.headers_mut() = headers(&case.with);
        let authority = url.authority().expect("a host").as_str();
        let authority = HeaderValue::from_str(authority).expect("a value");
        request.headers_mut().entry(HOST).or_insert(authority);
        let mut pods = snapshot.pods.values();
        let uid = pods.find(|one| *one.namespace == *namespace && *one.name == *pod);
        Self {
            snapshot,
            uid: uid.map_or_else(String::new, |pod| pod.uid.to_string()),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            url,
            request,
            via: case.via.clone(),
            app: headers(&case.app),
        }
    }

    fn port(&self) -> u16 {
        self.url.port_u16().unwrap_or(80)
    }

    /// Where the client's connection goes: what cluster DNS and the connect hook do.
    fn listener(&self) -> Option<&'s Listener> {
        let host = self.url.host().expect("a host");
        let mut listeners = self.snapshot.listeners.iter();
        if let Ok(ip) = host.parse() {
            let address = std::net::SocketAddr::new(ip, self.port());
            return self.snapshot.by_address.get(&address).map(AsRef::as_ref);
        }
        let name = host.trim_end_matches(".svc.cluster.local");
        let (service, namespace) = name.split_once('.').unwrap_or((name, &self.namespace));
        let here = |one: &&std::sync::Arc<Listener>| {
            (&*one.service, &*one.namespace, one.port) == (service, namespace, self.port())
        };
        listeners.find(here).map(AsRef::as_ref)
    }

    fn table(&self, listener: &'s Listener) -> &'s RouteTable {
        let own = listener.routes_for(&self.namespace);
        let host = self.view().authority;
        route::virtual_host(self.snapshot, &self.namespace, host).unwrap_or(own)
    }

    fn view(&self) -> RequestView<'_> {
        let authority = self.request.headers()[HOST].to_str().expect("text");
        RequestView {
            method: self.request.method(),
            path: self.request.uri().path(),
            query: self.request.uri().query(),
            authority,
            headers: self.request.headers(),
            client: Some(self.client()),
        }
    }

    fn client(&self) -> Client<'_> {
        Client {
            namespace: &self.namespace,
            uid: &self.uid,
            labels: &self.snapshot.pod_labels,
        }
    }

    /// Whether a connection is asked about (`TLS`, whose server name is the host, or `TCP`), not a
    /// request on it.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.request.method().as_str(), "TLS" | "TCP")
    }

    /// Everything that can be said about what becomes of the request.
    pub(crate) fn facts(&mut self) -> Facts {
        let mut facts = Facts::new();
        let Some(listener) = self.listener() else {
            facts.insert("verdict".to_owned(), "unknown".to_owned());
            return facts;
        };
        let verdict = match listener.verdict {
            ListenerVerdict::Proxy(ListenerProtocol::Http) => "http".to_owned(),
            ListenerVerdict::Proxy(ListenerProtocol::Tcp) => "tcp".to_owned(),
            ListenerVerdict::Direct => "direct".to_owned(),
            ListenerVerdict::Pass(reason) => format!("pass {}", reason.name()),
        };
        facts.insert("verdict".to_owned(), verdict);
        match listener.verdict {
            ListenerVerdict::Proxy(ListenerProtocol::Http) if !self.is_stream() => {
                self.serve(listener, &mut facts);
            }
            // In direct mode the kernel chooses of the same endpoints.
            ListenerVerdict::Proxy(_) | ListenerVerdict::Direct => {
                self.stream(listener, &mut facts);
            }
            ListenerVerdict::Pass(_) => {}
        }
        facts
    }

    fn stream(&self, listener: &Listener, facts: &mut Facts) {
        let Some(table) = listener.streams_for(&self.namespace) else {
            let whole = Destination::Cluster(listener.cluster);
            return self.destinations(&[WeightedDestination::plain(1, whole)], facts);
        };
        let name = self.request.headers()[HOST].to_str().ok();
        let greeting = if self.request.method() == "TLS" {
            Greeting::Tls(name)
        } else {
            Greeting::Other
        };
        let found = table.find(greeting, &self.client());
        let rule = found.map_or_else(
            || "none".to_owned(),
            |rule| rule_name(rule.object.as_deref(), &rule.field),
        );
        facts.insert("rule".to_owned(), rule);
        if let Some(rule) = found {
            self.destinations(&rule.destinations, facts);
        }
    }

    fn serve(&mut self, listener: &'s Listener, facts: &mut Facts) {
        let mut fact = |name: &str, value: &str| facts.insert(name.to_owned(), value.to_owned());
        let table = self.table(listener);
        if !table.is_implicit() && !self.normalise() {
            fact("status", "400");
            return;
        }
        match table.find(&self.view()) {
            Some(rule) => self.obey(rule, facts),
            None => {
                fact("rule", "none");
                fact("status", "404");
            }
        }
    }

    /// Gives the path its normal form, if it has one.
    fn normalise(&mut self) -> bool {
        let Ok(path) = route::normalise(self.request.uri().path()) else {
            return false;
        };
        let query = self.request.uri().query();
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("{path}{query}").parse().expect("a target");
        *self.request.uri_mut() = target;
        true
    }

    fn obey(&self, rule: &Rule, facts: &mut Facts) {
        facts.insert(
            "rule".to_owned(),
            rule_name(rule.object.as_deref(), &rule.field),
        );
        for (name, limit) in [
            ("timeout", rule.timeouts.request),
            ("each", rule.timeouts.backend_request),
        ] {
            let text = limit.map_or_else(|| "none".to_owned(), |limit| format!("{limit:?}"));
            facts.insert(name.to_owned(), text);
        }
        let mut answered = self.app.clone();
        let cors = rule.policies.as_ref().and_then(|of| of.cors.as_ref());
        let ruling = cors.map(|cors| cors::rule(cors, &self.request));
        match ruling {
            Some(Ruling::Answer(head)) => {
                facts.insert("status".to_owned(), "204".to_owned());
                note_headers("answered", &head, facts);
                return;
            }
            Some(Ruling::GoOn(Some(allowed))) => {
                self.act(rule, &mut answered, facts);
                allowed.tell(&mut answered);
            }
            Some(Ruling::GoOn(None)) | None => self.act(rule, &mut answered, facts),
        }
        note_headers("answered", &answered, facts);
    }

    fn act(&self, rule: &Rule, answered: &mut HeaderMap, facts: &mut Facts) {
        let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
        match &*rule.action {
            Action::Respond { status, reason } => {
                fact("status", status.as_u16().to_string());
                fact("reason", (*reason).to_owned());
            }
            Action::Direct {
                filters,
                status,
                body,
            } => {
                fact("status", status.as_u16().to_string());
                fact("body", String::from_utf8_lossy(body).into_owned());
                filters.response_headers.apply(answered);
            }
            Action::Redirect { filters, redirect } => {
                self.redirect(rule, redirect, facts);
                filters.response_headers.apply(answered);
            }
            Action::Forward {
                filters,
                destinations,
            } => {
                self.destinations(destinations, facts);
                self.forward(rule, filters, destinations, answered, facts);
            }
        }
    }

    fn redirect(&self, rule: &Rule, redirect: &Redirect, facts: &mut Facts) {
        let authority = self.request.headers()[HOST].to_str().expect("text");
        let view = RequestView {
            authority,
            ..self.view()
        };
        let location = route::location(rule, redirect, &view, self.port());
        facts.insert("status".to_owned(), redirect.status.as_u16().to_string());
        facts.insert("location".to_owned(), location);
    }

    fn forward(
        &self,
        rule: &Rule,
        filters: &Filters,
        destinations: &[WeightedDestination],
        answered: &mut HeaderMap,
        facts: &mut Facts,
    ) {
        let mut shares = destinations.iter().filter(|one| one.weight > 0);
        let chosen = match &self.via {
            None => shares.next(),
            Some(via) => shares.find(|one| name(one, self.snapshot) == *via),
        };
        let chosen = chosen.unwrap_or_else(|| panic!("a share of {:?}", self.via));
        if let Destination::Redirect(redirect) = &chosen.destination {
            self.redirect(rule, redirect, facts);
            route::edit_response(filters, chosen, answered);
            return;
        }
        let mut request = self.request.clone();
        match route::edit_request(rule, filters, chosen, &mut request) {
            Ok(()) => {
                facts.insert("target".to_owned(), request.uri().to_string());
                let host = request.headers_mut().remove(HOST).expect("a host");
                facts.insert("host".to_owned(), host.to_str().expect("text").to_owned());
                note_headers("sent", request.headers(), facts);
            }
            Err(_) => {
                facts.insert("status".to_owned(), "400".to_owned());
            }
        }
        route::edit_response(filters, chosen, answered);
    }

    fn destinations(&self, destinations: &[WeightedDestination], facts: &mut Facts) {
        let shown = destinations.iter().map(|one| {
            let name = name(one, self.snapshot);
            if destinations.len() == 1 {
                return name;
            }
            format!("{name}*{}", one.weight)
        });
        facts.insert("to".to_owned(), shown.collect::<Vec<_>>().join(", "));
        let shares = destinations.iter().filter(|one| one.weight > 0);
        let clusters = shares.filter_map(|one| match one.destination {
            Destination::Cluster(id) => self.snapshot.cluster(id),
            Destination::Redirect(_) | Destination::Invalid => None,
        });
        let mut addresses: Vec<_> = clusters
            .flat_map(|cluster| &cluster.endpoints)
            .map(|endpoint| endpoint.address)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        facts.insert("endpoints".to_owned(), addresses.join(", "));
    }

    /// What `explain` says of the request, whose path is in normal form once its facts are known.
    pub(crate) fn explained(&self) -> Explanation {
        let query = Query {
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            method: self.request.method().clone(),
            url: format!(
                "http://{}{}",
                self.url.authority().expect("a host"),
                self.request.uri()
            ),
            headers: self.request.headers().clone(),
        };
        explain::explain(self.snapshot, &query).expect("an explanation")
    }
}

/// A rule as `name rules[0]`.
fn rule_name(object: Option<&ObjectId>, field: &str) -> String {
    object.map_or_else(
        || "implicit".to_owned(),
        |object| format!("{} {}", object.name, field.trim_start_matches("spec.")),
    )
}

fn name(one: &WeightedDestination, snapshot: &Snapshot) -> String {
    match one.destination {
        Destination::Cluster(id) => snapshot.cluster(id).expect("a cluster").name.to_string(),
        Destination::Redirect(_) => "redirect".to_owned(),
        Destination::Invalid => "invalid".to_owned(),
    }
}

fn headers(from: &BTreeMap<String, Several>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in from {
        let name: HeaderName = name.parse().expect("a header's name");
        for value in values.all() {
            headers.append(&name, HeaderValue::from_str(value).expect("a value"));
        }
    }
    headers
}

fn note_headers(prefix: &str, headers: &HeaderMap, facts: &mut Facts) {
    for name in headers.keys() {
        let values = headers.get_all(name).iter();
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        facts.insert(format!("{prefix} {name}"), values.join(" | "));
    }
}
