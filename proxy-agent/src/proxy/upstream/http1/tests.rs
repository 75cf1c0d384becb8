//! The client on real sockets: what is written, what is read, and what becomes of the connection.

mod beside;
mod lines;
mod requests;
mod responses;

use std::pin::pin;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::proxy::tee::Feed;
use crate::proxy::upstream::ResponseFields::Read;

fn request(method: &str) -> Request<RequestBody> {
    let request = Request::builder()
        .method(method)
        .uri("/a?b")
        .header("host", "svc");
    request.body(RequestBody::Empty).unwrap()
}

/// A connection, and the upstream's end of it.
async fn connected() -> (Box<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (upstream, _) = listener.accept().await.unwrap();
    let io = UpstreamIo {
        accelerated: None,
        stream,
    };
    (Connection::new(io), upstream)
}

/// Reads from `upstream` until what came ends with `end`.
async fn read_to(upstream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let some = tokio::time::timeout(Duration::from_secs(10), upstream.read_buf(&mut read));
        assert!(
            some.await.expect("more").unwrap() > 0,
            "{}",
            String::from_utf8_lossy(&read)
        );
    }
    String::from_utf8(read).unwrap()
}

/// What a request is as it arrives, which ends with `end`; it gets an answer.
async fn sent(request: Request<RequestBody>, end: &str) -> String {
    let (connection, mut upstream) = connected().await;
    let upstream = async {
        let read = read_to(&mut upstream, end).await;
        upstream
            .write_all(b"HTTP/1.1 204 None\r\n\r\n")
            .await
            .unwrap();
        read
    };
    let (answered, read) = tokio::join!(connection.send(Box::new(request), Read), upstream);
    assert!(answered.is_ok());
    read
}

/// Sends a GET; the upstream says `bytes` to it. What became of the connection, and the upstream's end.
async fn after(bytes: &[u8]) -> (Option<Box<Connection>>, TcpStream) {
    let (connection, mut upstream) = connected().await;
    let answer = async {
        read_to(&mut upstream, "\r\n\r\n").await;
        upstream.write_all(bytes).await.unwrap();
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request("GET")), Read), answer);
    let mut body = download(sent);
    while !body.is_end_stream() {
        if body.frame().await.is_none_or(|frame| frame.is_err()) {
            break;
        }
    }
    (body.into_idle(), upstream)
}

/// The body of an answer.
fn download(answered: Result<Box<Response<Received>>, Unanswered>) -> Download {
    let response = answered.ok().expect("an answer");
    match response.into_body() {
        Received::Http1(download) => download,
        Received::Http2(_) | Received::Taken => panic!("no body of HTTP/1"),
    }
}

/// A request of a body that comes frame by frame.
fn streamed(length: Option<u64>) -> (Feed, Request<RequestBody>) {
    let (feed, body) = Feed::new();
    let mut request = request("POST").map(|_| body);
    if let Some(length) = length {
        request
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    (feed, request)
}

fn frame(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn a_connection_is_used_again_only_after_a_response_that_ended_by_itself() {
    for (bytes, again) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..], true),
        (b"HTTP/1.1 204 None\r\n\r\n", true),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            true,
        ),
        (
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
            true,
        ),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", false),
        (
            b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nhi",
            false,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi!", false),
        (b"HTTP/1.1 204 None\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
            false,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n",
            false,
        ),
    ] {
        let (connection, _upstream) = after(bytes).await;
        assert_eq!(
            connection.is_some(),
            again,
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let (connection, mut upstream) = after(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let connection = connection.expect("kept");
    assert!(connection.is_ready());
    let answer = async {
        read_to(&mut upstream, "\r\n\r\n").await;
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyou")
            .await
            .unwrap();
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request("GET")), Read), answer);
    let body = download(sent);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "you");
}

#[tokio::test]
async fn a_connection_on_which_something_has_happened_is_not_ready() {
    for bytes in [&b"HTTP/1.1 408 Too late\r\n\r\n"[..], b""] {
        let (connection, mut upstream) = after(b"HTTP/1.1 204 None\r\n\r\n").await;
        let connection = connection.expect("kept");
        assert!(connection.is_ready());
        if bytes.is_empty() {
            upstream.shutdown().await.unwrap();
        } else {
            upstream.write_all(bytes).await.unwrap();
        }
        let told = async {
            while connection.is_ready() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told)
            .await
            .expect("seen");
    }
}

#[tokio::test]
async fn a_request_comes_back_from_a_connection_that_died_without_a_word() {
    let (connection, mut upstream) = connected().await;
    let die = async {
        read_to(&mut upstream, "\r\n\r\n").await;
        drop(upstream);
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request("GET")), Read), die);
    let unanswered = sent.err().expect("no answer");
    assert!(unanswered.sent);
    assert_eq!(unanswered.request.expect("the request").uri(), "/a?b");
}

#[tokio::test]
async fn a_request_does_not_come_back_once_the_upstream_has_said_something_or_has_some_body() {
    let (connection, mut upstream) = connected().await;
    let die = async {
        read_to(&mut upstream, "\r\n\r\n").await;
        upstream.write_all(b"HTTP/1.1 2").await.unwrap();
        drop(upstream);
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request("GET")), Read), die);
    let unanswered = sent.err().expect("no answer");
    assert!(unanswered.request.is_none() && unanswered.sent);
    assert_eq!(unanswered.error.reason(), Reason::UpstreamReset);

    let (connection, mut upstream) = connected().await;
    let (feed, request) = streamed(Some(5));
    feed.push(frame("hello"));
    let die = async {
        read_to(&mut upstream, "hello").await;
        drop(upstream);
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request), Read), die);
    assert!(sent.err().expect("no answer").request.is_none());
}

#[tokio::test]
async fn what_tells_of_progress_is_passed_over_and_100_is_told() {
    let (connection, mut upstream) = connected().await;
    let token = CancellationToken::new();
    let mut request = request("GET");
    request.extensions_mut().insert(OnContinue(token.clone()));
    let answer = async {
        read_to(&mut upstream, "\r\n\r\n").await;
        upstream
            .write_all(b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!token.is_cancelled());
        upstream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .await
            .unwrap();
        token.cancelled().await;
        upstream
            .write_all(b"HTTP/1.1 204 None\r\n\r\n")
            .await
            .unwrap();
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request), Read), answer);
    assert_eq!(
        sent.ok().expect("an answer").status(),
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_request_does_not_come_back_after_news_of_its_progress() {
    let (connection, mut upstream) = connected().await;
    let die = async {
        read_to(&mut upstream, "\r\n\r\n").await;
        upstream
            .write_all(b"HTTP/1.1 102 Wait\r\n\r\n")
            .await
            .unwrap();
        drop(upstream);
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request("GET")), Read), die);
    assert!(sent.err().expect("no answer").request.is_none());
}

#[test]
fn what_an_upstream_may_have_said_is_read_only_if_it_has_closed() {
    assert!(is_closed(&io::ErrorKind::BrokenPipe.into()));
    // What a redirect that failed says: the upstream knows nothing of it.
    assert!(!is_closed(&io::ErrorKind::OutOfMemory.into()));
}

#[tokio::test]
async fn a_switch_hands_over_what_came_behind_the_head() {
    let (connection, mut upstream) = connected().await;
    let mut request = request("GET");
    request
        .headers_mut()
        .insert("upgrade", HeaderValue::from_static("websocket"));
    let answer = async {
        read_to(&mut upstream, "\r\n\r\n").await;
        upstream
            .write_all(b"HTTP/1.1 101 Switch\r\nUpgrade: websocket\r\n\r\nhi")
            .await
            .unwrap();
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request), Read), answer);
    let status = sent.as_ref().ok().map(|response| response.status());
    assert_eq!(status, Some(StatusCode::SWITCHING_PROTOCOLS));
    let (came, mut tunnel) = download(sent).into_tunnel().expect("switched");
    tunnel.write_all(b"yo").await.unwrap();
    read_to(&mut upstream, "yo").await;
    upstream.write_all(b"!").await.unwrap();
    drop(upstream);
    let mut read = String::new();
    let mut tunnel = (&came[..]).chain(tunnel);
    tunnel.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "hi!");
}

#[tokio::test]
async fn a_connection_that_was_closed_is_not_ready_in_a_task_that_has_used_up_its_share() {
    let (connection, upstream) = after(b"HTTP/1.1 204 None\r\n\r\n").await;
    let connection = connection.expect("kept");
    drop(upstream);
    while connection.is_ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    poll_fn(|cx| {
        while pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
        assert!(!connection.is_ready());
        Poll::Ready(())
    })
    .await;
}
