//! One request on its way to an endpoint: pick, connect or reuse, send, and try again where that
//! cannot do harm.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;

use http::Request;
use smallvec::SmallVec;

use super::body::RequestBody;
use super::headers;
use super::load::{Client, ClusterState, EndpointState, OpenOnEndpoint};
use super::pod::PodState;
use super::reply::Reason;
use super::traffic::Ticket;
use super::upstream::{
    self, Answered, MAX_TRIES, OpenError, Protocol, ResponseFields, SendError, Sender,
};
use super::worker::Worker;

/// Where a request comes from and goes to.
pub(super) struct Forward<'a> {
    pub(super) worker: &'a Worker,
    pub(super) pod: &'a Rc<PodState>,
    pub(super) cluster: &'a ClusterState,
    pub(super) protocol: Protocol,
    /// The address that the client chose.
    pub(super) asked: IpAddr,
    /// The endpoint to try first: that of the request's session.
    pub(super) preferred: Option<&'a Rc<EndpointState>>,
    pub(super) fields: ResponseFields,
}

/// Endpoints that a request was sent to, or that did not take its connection.
pub(super) type Tried = SmallVec<[SocketAddr; MAX_TRIES]>;

enum Failed {
    /// Nothing was sent: any other endpoint may have the request.
    Unsent(Box<Request<RequestBody>>),
    /// The request may have been seen.
    Sent(Reason),
}

impl Forward<'_> {
    /// Sends `request` to an endpoint of the cluster and waits for the response's head. Endpoints
    /// in `tried` are avoided; those that had a part in this are added.
    pub(super) async fn send(
        &self,
        mut request: Box<Request<RequestBody>>,
        ticket: &mut Ticket,
        tried: &mut Tried,
    ) -> Result<Answered, Reason> {
        let before = tried.len();
        while tried.len() < before + MAX_TRIES {
            let Some(endpoint) = self.pick(tried, before) else {
                break;
            };
            ticket.on_endpoint(OpenOnEndpoint::new(Rc::clone(&endpoint)));
            tried.push(endpoint.address);
            match self.send_to(&endpoint, request).await {
                Ok(answered) => return Ok(answered),
                Err(Failed::Sent(reason)) => return Err(reason),
                Err(Failed::Unsent(returned)) => request = returned,
            }
        }
        Err(Reason::unreached(&tried[before..]))
    }

    /// The next endpoint: those before `before` are avoided where there are others, those after
    /// it did not take the connection just now.
    fn pick(&self, tried: &[SocketAddr], before: usize) -> Option<Rc<EndpointState>> {
        if let Some(endpoint) = self.preferred.filter(|_| tried.is_empty()) {
            return Some(Rc::clone(endpoint));
        }
        let draw = self.worker.draw();
        let client = Client {
            asked: self.asked,
            namespace: &self.pod.namespace,
        };
        let fresh = self.cluster.pick(draw, client, tried);
        fresh.or_else(|| self.cluster.pick(draw, client, &tried[before..]))
    }

    async fn send_to(
        &self,
        endpoint: &Rc<EndpointState>,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Answered, Failed> {
        // A request without a body may go twice, if the second time does what the first has done.
        let may_repeat = headers::is_idempotent(request.method());
        let mut reused = upstream::checkout(endpoint, self.pod, self.protocol);
        loop {
            let fresh = reused.is_none();
            let sender = match reused.take() {
                Some(sender) => sender,
                None => match self.open(endpoint).await {
                    Ok(sender) => sender,
                    Err(OpenError::Connect(_)) => return Err(Failed::Unsent(request)),
                    Err(OpenError::Handshake(_)) => {
                        return Err(Failed::Sent(Reason::UpstreamProtocol));
                    }
                },
            };
            // One that lay idle may have been closed while the request was on its way.
            let repeats = may_repeat && !fresh;
            let sent = sender.send(request, repeats, self.fields, endpoint, self.pod);
            request = match sent.await {
                Ok(answered) => return Ok(answered),
                Err(SendError::Unsent(request)) if fresh => return Err(Failed::Unsent(request)),
                Err(SendError::Unsent(request)) => request,
                Err(SendError::Unanswered(request)) if repeats => request,
                Err(SendError::Unanswered(_)) => return Err(Failed::Sent(Reason::UpstreamReset)),
                Err(SendError::Failed(reason)) => return Err(Failed::Sent(reason)),
            };
        }
    }

    /// Boxed: a connect is rare, and its state would make every request's larger.
    fn open(
        &self,
        endpoint: &Rc<EndpointState>,
    ) -> Pin<Box<impl Future<Output = Result<Sender, OpenError>>>> {
        Box::pin(upstream::open(
            self.worker,
            self.pod,
            endpoint,
            self.protocol,
        ))
    }
}
