//! What the fuzz targets share: snapshots of texts, and requests out of bytes.

mod act;

use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use proxy_agent::compile::{Compiler, Options};
use proxy_agent::model::{Listener, Snapshot};
use proxy_agent::objects::{Format, ObjectSet, Origin, parse};
use proxy_agent::route::{self, Client, RequestView};

/// Namespace of the client.
const NAMESPACE: &str = "shop";

/// Reads a text, and compiles what it holds.
pub fn compile(text: &str, format: Format) -> Snapshot {
    let parsed = parse(text, &Arc::from("fuzz"), format);
    let mut set = ObjectSet::unsynced("fuzz".into(), Origin::Files);
    set.objects = parsed.objects.into_iter().map(Arc::new).collect();
    set.problems = parsed.problems;
    Compiler::default().compile(&[Arc::new(set)], &Options::default())
}

/// A request out of lines: method and target, then headers as `name: value`. Lines that are none of
/// it are left out; the path gets its normal form, as the proxy sees to.
pub fn request(text: &[u8]) -> Option<Request<()>> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let (method, target) = first.split_at(space);
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = normal(&Uri::try_from(&target[1..]).ok()?)?;
    let headers = request.headers_mut();
    for line in lines.take(16) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name.trim_ascii());
        let value = HeaderValue::from_bytes(value[1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    Some(request)
}

fn normal(uri: &Uri) -> Option<Uri> {
    let mut target = route::normalise(uri.path()).ok()?.into_owned();
    if let Some(query) = uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The authority of a request, as the proxy reads it.
pub fn authority(headers: &HeaderMap) -> &str {
    headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default()
}

/// What rules look at in a request from a pod that is not known.
pub fn view<'a>(request: &'a Request<()>, snapshot: &'a Snapshot) -> RequestView<'a> {
    RequestView {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query(),
        authority: route::strip_port(authority(request.headers())),
        headers: request.headers(),
        client: Some(Client {
            namespace: NAMESPACE,
            uid: "",
            labels: &snapshot.pod_labels,
        }),
    }
}

/// Has every rule of a listener that `request` meets, and every rule before it, do its part.
///
/// # Panics
/// The table finds another rule than a look at each of them in order.
pub fn serve(snapshot: &Snapshot, listener: &Listener, request: &Request<()>) {
    let view = view(request, snapshot);
    let own = listener.routes_for(NAMESPACE);
    let table = route::virtual_host(snapshot, NAMESPACE, view.authority).unwrap_or(own);
    let found = table.find(&view);
    let mut rules = table.rules.iter();
    let first = rules.find(|rule| rule.conditions.holds(&view));
    assert_eq!(
        found.map(std::ptr::from_ref),
        first.map(std::ptr::from_ref),
        "{request:?}"
    );
    if let Some(rule) = found {
        act::act(rule, request, &view);
    }
}
