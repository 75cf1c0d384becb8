//! Which rule a request falls under.

use http::header::HOST;
use http::{Request, Version};

use crate::model::{Listener, RouteTable, Rule, Snapshot};
use crate::route::{self, Client, RequestView};

use super::body::RequestBody;
use super::downstream::Downstream;
use super::reply::Reason;
use super::{MAX_HEADERS, headers, target};

/// The rule that a request falls under. Where a route decides, its path is in normal form from
/// here on; a Service without one gets what the client sent.
pub(super) fn find<'a>(
    snapshot: &'a Snapshot,
    listener: &'a Listener,
    downstream: &Downstream,
    request: &mut Request<RequestBody>,
) -> Result<&'a Rule, Reason> {
    let table = table(snapshot, listener, downstream, request)?;
    if !table.is_implicit() {
        target::normalise(request)?;
    }
    let client = Client {
        namespace: &downstream.open.pod.namespace,
        uid: &downstream.open.pod.uid,
        labels: &snapshot.pod_labels,
    };
    let authority = headers::authority(request).unwrap_or_default();
    let view = view(request, authority, Some(client));
    table.find(&view).ok_or(Reason::NoRoute)
}

/// The rules that a request falls under.
fn table<'a>(
    snapshot: &'a Snapshot,
    listener: &'a Listener,
    downstream: &Downstream,
    request: &Request<RequestBody>,
) -> Result<&'a RouteTable, Reason> {
    if request.headers().len() > MAX_HEADERS {
        return Err(Reason::HeadTooLarge);
    }
    // RFC 9112, section 3.2: of two, the agent and the upstream might each believe another one.
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err(Reason::BadRequest);
    }
    let authority = headers::authority(request);
    // RFC 9112, section 3.2: an HTTP/1.1 request without Host is a bad one.
    if authority.is_none() && request.version() == Version::HTTP_11 {
        return Err(Reason::BadRequest);
    }
    let namespace = &downstream.open.pod.namespace;
    let table = route::virtual_host(snapshot, namespace, authority.unwrap_or_default());
    Ok(table.unwrap_or_else(|| listener.routes_for(namespace)))
}

/// What rules look at in a request.
pub(super) fn view<'a>(
    request: &'a Request<RequestBody>,
    authority: &'a str,
    client: Option<Client<'a>>,
) -> RequestView<'a> {
    RequestView {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query(),
        authority,
        headers: request.headers(),
        client,
    }
}
