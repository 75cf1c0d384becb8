//! A response that begins, or ends, before its request has ended.

use super::*;

/// A request that goes on beside its response.
struct Early {
    feed: Feed,
    response: Response<Download>,
    /// The request, and the response, at the endpoint.
    body: RecvStream,
    _answer: SendStream<Bytes>,
    connection: Rc<Connection>,
}

/// A response that has ended with its head, or has not.
async fn early(whole: bool) -> Early {
    let (connection, server) = allowing(9).await;
    let (feed, request) = streamed();
    let endpoint = async {
        let (request, mut respond) = accepted(server).await;
        let answer = respond.send_response(Response::new(()), whole).unwrap();
        (request.into_body(), answer)
    };
    let sent = send(&connection, request, false);
    let (sent, (body, answer)) = in_time(async { tokio::join!(sent, endpoint) }).await;
    Early {
        feed,
        response: sent.ok().expect("an answer"),
        body,
        _answer: answer,
        connection,
    }
}

#[tokio::test(flavor = "local")]
async fn a_request_goes_on_beside_a_response_that_nobody_reads() {
    let mut early = early(false).await;
    assert!(early.connection.is_busy(), "the stream counts");
    early.feed.push(frame("hello"));
    assert_eq!(next(&mut early.body).await.unwrap().unwrap(), "hello");
    early.feed.end();
    assert!(next(&mut early.body).await.is_none());
}

#[tokio::test(flavor = "local")]
async fn a_request_goes_on_behind_a_response_that_has_ended() {
    let mut early = early(true).await;
    drop(early.response);
    early.feed.push(frame("hello"));
    assert_eq!(next(&mut early.body).await.unwrap().unwrap(), "hello");
    early.feed.end();
    assert!(next(&mut early.body).await.is_none());
    in_time(async {
        while early.connection.is_busy() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "local")]
async fn a_response_that_is_given_up_takes_its_request_along() {
    let mut early = early(false).await;
    drop(early.response);
    let end = next(&mut early.body).await;
    assert!(end.is_some_and(|end| end.is_err()), "never a clean end");
}
