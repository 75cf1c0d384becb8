//! A request that is tried several times, as its rule says.

use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::time::{sleep, timeout};

use crate::model::Retry;
use crate::retry::Outcome;

use super::body::RequestBody;
use super::forward::{Forward, Tried};
use super::load::OpenRetry;
use super::replay::Original;
use super::reply::Reason;
use super::traffic::Ticket;
use super::upstream::Answered;

/// Sends `request` until a try succeeds, fails in a way that `retry` does not cover, or may not be
/// followed by another one. Each try may take as long as `each`.
pub(super) async fn send(
    forward: &Forward<'_>,
    retry: &Retry,
    each: Option<Duration>,
    request: Request<RequestBody>,
    ticket: &mut Ticket,
) -> Result<Answered, Reason> {
    let budget = retry.budget.as_ref();
    if let Some(budget) = budget {
        forward.cluster.deposit(budget);
    }
    let (head, body) = request.into_parts();
    let original = Original::new(body);
    let mut body = original.first();
    let mut tried = Tried::new();
    let mut number = 0;
    let mut under_way: Option<OpenRetry> = None;
    loop {
        let request = Box::new(Request::from_parts(head.clone(), body));
        let answer = one(forward, each, request, ticket, &mut tried).await;
        drop(under_way.take());
        if number >= retry.attempts || !retry.on.covers(outcome(&answer)) {
            return answer;
        }
        let recorder = &forward.cluster.recorder;
        let Some(room) = forward.cluster.retry(budget, &forward.pod.namespace) else {
            recorder.retry_withheld();
            return answer;
        };
        let Some(next) = original.again() else {
            recorder.retry_withheld();
            return answer;
        };
        // Counts as under way from here: many that wait would come at once.
        under_way = Some(room);
        body = next;
        dismiss(answer);
        let draw = forward.worker.draw().word();
        sleep(retry.backoff.wait(number, draw)).await;
        recorder.retried();
        number += 1;
    }
}

async fn one(
    forward: &Forward<'_>,
    limit: Option<Duration>,
    request: Box<Request<RequestBody>>,
    ticket: &mut Ticket,
    tried: &mut Tried,
) -> Result<Answered, Reason> {
    let sending = forward.send(request, ticket, tried);
    match limit {
        None => sending.await,
        Some(limit) => timeout(limit, sending)
            .await
            .unwrap_or(Err(Reason::TimeoutBackend)),
    }
}

fn outcome(answer: &Result<Answered, Reason>) -> Outcome {
    match answer {
        Ok((response, _)) => Outcome::Answered {
            status: response.status().as_u16(),
            grpc: grpc_status(response.headers()),
        },
        Err(Reason::ConnectFailed) => Outcome::ConnectFailed,
        Err(Reason::UpstreamRefused) => Outcome::Refused,
        Err(Reason::UpstreamReset | Reason::UpstreamProtocol | Reason::TimeoutBackend) => {
            Outcome::Reset
        }
        Err(_) => Outcome::Final,
    }
}

/// The gRPC status of a response that is a head alone (gRPC over HTTP/2, "Trailers-Only").
fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Gives back the connection of a response that nobody will read, where it has no body.
fn dismiss(answer: Result<Answered, Reason>) {
    use http_body::Body as _;
    if let Ok((response, lease)) = answer
        && response.body().is_end_stream()
    {
        lease.give_back(response.into_body());
    }
}
