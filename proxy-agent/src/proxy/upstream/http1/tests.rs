use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::super::super::tee::Feed;
use super::whole::read_response;
use super::*;

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
    (Connection::new(UpstreamIo::new(stream, None)), upstream)
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
    let (answered, read) = tokio::join!(connection.send(Box::new(request)), upstream);
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
    let (sent, ()) = tokio::join!(connection.send(Box::new(request("GET"))), answer);
    let mut body = sent.ok().expect("an answer").into_body();
    while !body.is_end_stream() {
        if body.frame().await.is_none_or(|frame| frame.is_err()) {
            break;
        }
    }
    (body.into_idle(), upstream)
}

#[tokio::test]
async fn a_request_is_written_as_it_is() {
    let read = sent(request("GET"), "\r\n\r\n").await;
    assert_eq!(read, "GET /a?b HTTP/1.1\r\nhost: svc\r\n\r\n");
    let mut connect = request("CONNECT");
    *connect.uri_mut() = "svc:80".parse().unwrap();
    let read = sent(connect, "\r\n\r\n").await;
    assert_eq!(read, "CONNECT svc:80 HTTP/1.1\r\nhost: svc\r\n\r\n");
    let mut bare = request("GET");
    *bare.uri_mut() = "http://svc?b".parse().unwrap();
    let read = sent(bare, "\r\n\r\n").await;
    assert_eq!(read, "GET /?b HTTP/1.1\r\nhost: svc\r\n\r\n");
    let mut options = request("OPTIONS");
    *options.uri_mut() = "*".parse().unwrap();
    let read = sent(options, "\r\n\r\n").await;
    assert_eq!(read, "OPTIONS * HTTP/1.1\r\nhost: svc\r\n\r\n");
}

#[tokio::test]
async fn a_request_that_could_have_a_body_says_that_it_has_none() {
    let read = sent(request("POST"), "\r\n\r\n").await;
    assert_eq!(
        read,
        "POST /a?b HTTP/1.1\r\nhost: svc\r\ncontent-length: 0\r\n\r\n"
    );
    let mut told = request("GET");
    told.headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(0));
    let read = sent(told, "\r\n\r\n").await;
    assert_eq!(
        read,
        "GET /a?b HTTP/1.1\r\nhost: svc\r\ncontent-length: 0\r\n\r\n"
    );
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
async fn a_body_of_unknown_length_goes_in_chunks_with_its_trailers() {
    let (feed, mut request) = streamed(None);
    let named = HeaderValue::from_static("x-sum, Host, content-length");
    request.headers_mut().insert("trailer", named);
    feed.push(frame("hello"));
    feed.push(frame(""));
    feed.push(frame("0123456789abcdef"));
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "x-not-named", "host", "content-length"] {
        trailers.insert(name, HeaderValue::from_static("1"));
    }
    feed.push(Frame::trailers(trailers));
    feed.end();
    let read = sent(request, "\r\n0\r\nx-sum: 1\r\n\r\n").await;
    assert!(
        read.contains("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n0123"),
        "{read}"
    );
    let (feed, request) = streamed(None);
    feed.push(frame("hello"));
    feed.end();
    let read = sent(request, "0\r\n\r\n").await;
    assert!(read.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{read}");
}

#[tokio::test]
async fn a_body_of_known_length_goes_as_it_is() {
    let (feed, request) = streamed(Some(10));
    feed.push(frame("hello"));
    feed.push(frame("world"));
    let read = sent(request, "helloworld").await;
    assert!(
        read.ends_with("content-length: 10\r\n\r\nhelloworld"),
        "{read}"
    );
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_told_ends_the_connection() {
    for (length, end) in [(4, false), (6, true)] {
        let (connection, mut upstream) = connected().await;
        let (feed, request) = streamed(Some(length));
        feed.push(frame("hello"));
        if end {
            feed.end();
        }
        let Err(unanswered) = connection.send(Box::new(request)).await else {
            panic!("answered");
        };
        assert!(matches!(unanswered.error, Error::Mismatch(_)));
        assert!(unanswered.request.is_none());
        let mut read = Vec::new();
        upstream.read_to_end(&mut read).await.unwrap();
        assert!(!read.ends_with(b"hello") || length == 6);
    }
}

#[tokio::test]
async fn large_frames_arrive_in_order() {
    let large = Bytes::from((0..=255).cycle().take(3_000_000).collect::<Vec<u8>>());
    for length in [None, Some(3_000_003)] {
        let (connection, mut upstream) = connected().await;
        let (feed, request) = streamed(length);
        feed.push(frame("abc"));
        feed.push_large(large.clone());
        feed.end();
        let upstream = async {
            let mut read = Vec::new();
            while read.len() < 3_000_003 || !(length.is_some() || read.ends_with(b"\r\n0\r\n\r\n"))
            {
                assert!(upstream.read_buf(&mut read).await.unwrap() > 0);
            }
            upstream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
            read
        };
        let (answered, read) = tokio::join!(connection.send(Box::new(request)), upstream);
        let body = answered.ok().expect("an answer").into_body();
        assert!(body.into_idle().is_some(), "it can be used again");
        let mut expected = match length {
            None => b"3\r\nabc\r\n2dc6c0\r\n".to_vec(),
            Some(_) => b"abc".to_vec(),
        };
        expected.extend_from_slice(&large);
        if length.is_none() {
            expected.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        assert!(read.ends_with(&expected));
    }
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
    let (sent, ()) = tokio::join!(connection.send(Box::new(request("GET"))), answer);
    let body = sent.ok().expect("an answer").into_body();
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
    let (sent, ()) = tokio::join!(connection.send(Box::new(request("GET"))), die);
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
    let (sent, ()) = tokio::join!(connection.send(Box::new(request("GET"))), die);
    let unanswered = sent.err().expect("no answer");
    assert!(unanswered.request.is_none() && unanswered.sent);
    assert!(!unanswered.error.is_protocol());

    let (connection, mut upstream) = connected().await;
    let (feed, request) = streamed(Some(5));
    feed.push(frame("hello"));
    let die = async {
        read_to(&mut upstream, "hello").await;
        drop(upstream);
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request)), die);
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
    let (sent, ()) = tokio::join!(connection.send(Box::new(request)), answer);
    assert_eq!(
        sent.ok().expect("an answer").status(),
        StatusCode::NO_CONTENT
    );
}

#[tokio::test(flavor = "local")]
async fn a_response_may_begin_before_the_request_has_ended() {
    let (connection, mut upstream) = connected().await;
    let (feed, request) = streamed(None);
    feed.push(frame("one"));
    let head = async {
        read_to(&mut upstream, "one\r\n").await;
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nONE\r\n";
        upstream.write_all(head).await.unwrap();
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request)), head);
    let mut body = sent.ok().expect("an answer").into_body();
    // Nobody reads the response, and the request goes on.
    feed.push(frame("two"));
    feed.end();
    read_to(&mut upstream, "two\r\n0\r\n\r\n").await;
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.data_ref().unwrap(), "ONE");
    upstream.write_all(b"3\r\nTWO\r\n0\r\n\r\n").await.unwrap();
    let second = body.frame().await.unwrap().unwrap();
    assert_eq!(second.data_ref().unwrap(), "TWO");
    assert!(body.frame().await.is_none());
    assert!(body.into_idle().is_some(), "both have ended");
}

/// A response of these bytes to a request whose body goes on.
async fn early(bytes: &[u8]) -> (Feed, Response<Download>, TcpStream) {
    let (connection, mut upstream) = connected().await;
    let (feed, request) = streamed(None);
    let answer = async {
        read_to(&mut upstream, "chunked\r\n\r\n").await;
        upstream.write_all(bytes).await.unwrap();
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request)), answer);
    (feed, sent.ok().expect("an answer"), upstream)
}

#[tokio::test(flavor = "local")]
async fn after_a_response_that_ended_before_it_a_request_still_arrives_whole() {
    let (feed, response, mut upstream) =
        early(b"HTTP/1.1 202 Taken\r\nContent-Length: 0\r\n\r\n").await;
    assert!(response.into_body().into_idle().is_none(), "it is in use");
    feed.push(frame("hello"));
    feed.end();
    read_to(&mut upstream, "5\r\nhello\r\n0\r\n\r\n").await;
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0, "closed");
}

#[tokio::test(flavor = "local")]
async fn a_response_that_is_given_up_takes_its_request_along() {
    let (_feed, response, mut upstream) =
        early(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe").await;
    drop(response);
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0, "closed");
}

#[tokio::test(flavor = "local")]
async fn a_request_that_breaks_off_breaks_its_response_off() {
    let (feed, response, mut upstream) =
        early(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let mut body = response.into_body();
    let (frame, ()) = tokio::join!(body.frame(), async { feed.break_off() });
    assert!(matches!(frame, Some(Err(Error::Body(_)))));
    drop(body);
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0, "closed");
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
    let (sent, ()) = tokio::join!(connection.send(Box::new(request("GET"))), die);
    assert!(sent.err().expect("no answer").request.is_none());
}

#[test]
fn what_an_upstream_may_have_said_is_read_only_if_it_has_closed() {
    assert!(is_closed(&io::ErrorKind::BrokenPipe.into()));
    // What a redirect that failed says: the upstream knows nothing of it.
    assert!(!is_closed(&io::ErrorKind::OutOfMemory.into()));
}

#[test]
fn news_of_progress_are_bounded() {
    let progress =
        |times: usize| "HTTP/1.1 103 Early\r\n\r\n".repeat(times) + "HTTP/1.1 204 None\r\n\r\n";
    let read = |times| read_response(&request("GET"), progress(times).as_bytes(), 1_000).is_ok();
    assert!(read(99) && !read(100));
}

#[tokio::test(flavor = "local")]
async fn an_upstream_that_closes_while_it_is_sent_to_is_heard() {
    let (connection, mut upstream) = connected().await;
    let (feed, request) = streamed(None);
    feed.push_large(Bytes::from(vec![b'x'; 16 << 20]));
    let answer = async {
        upstream
            .write_all(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\nno")
            .await
            .unwrap();
        upstream.shutdown().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request)), answer);
    let response = sent.ok().expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "no"
    );
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
    let (sent, ()) = tokio::join!(connection.send(Box::new(request)), answer);
    let response = sent.ok().expect("an answer");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut tunnel = response.into_body().into_tunnel().expect("switched");
    tunnel.write_all(b"yo").await.unwrap();
    read_to(&mut upstream, "yo").await;
    upstream.write_all(b"!").await.unwrap();
    drop(upstream);
    let mut read = String::new();
    tunnel.read_to_string(&mut read).await.unwrap();
    assert_eq!(read, "hi!");
}

/// A response as hyper's client reads it, from an upstream that closes behind it.
async fn by_hyper(
    method: &Method,
    bytes: &[u8],
) -> Result<(http::response::Parts, Bytes, Option<HeaderMap>), String> {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(near)).await;
    let (mut sender, connection) = handshake.unwrap();
    let answer = async {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            far.read_buf(&mut asked).await.unwrap();
        }
        far.write_all(bytes).await.unwrap();
        far.shutdown().await.unwrap();
    };
    let exchange = async {
        let request = Request::builder()
            .method(method)
            .uri("/a")
            .body(Empty::<Bytes>::new());
        let response = sender.send_request(request.unwrap()).await;
        let (head, body) = response.map_err(|e| e.to_string())?.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?;
        let trailers = body.trailers().cloned();
        Ok((head, body.to_bytes(), trailers))
    };
    let exchange = async { tokio::join!(exchange, answer).0 };
    let mut exchange = pin!(exchange);
    let mut connection = pin!(connection);
    let mut over = false;
    poll_fn(|cx| {
        over = over || connection.as_mut().poll(cx).is_ready();
        exchange.as_mut().poll(cx)
    })
    .await
}

/// That a response means to the agent what it means to hyper, however it comes.
async fn agrees(method: &Method, bytes: &[u8]) -> bool {
    let request = Request::builder()
        .method(method)
        .uri("/a")
        .body(())
        .unwrap();
    let whole = read_response(&request, bytes, usize::MAX);
    for piece in [1, 2, 7] {
        assert_eq!(
            read_response(&request, bytes, piece)
                .map_err(drop)
                .map(Response::into_body),
            whole
                .as_ref()
                .map(Response::body)
                .map_err(drop)
                .map(|whole| Whole {
                    data: whole.data.clone(),
                    trailers: whole.trailers.clone(),
                    keeps_alive: whole.keeps_alive,
                }),
            "in pieces of {piece}: {}",
            String::from_utf8_lossy(bytes)
        );
    }
    match (whole, by_hyper(method, bytes).await) {
        (Ok(own), Ok((head, body, trailers))) => {
            own.status() == head.status
                && own.version() == head.version
                && *own.headers() == head.headers
                && own.extensions().get::<hyper::ext::ReasonPhrase>()
                    == head.extensions.get::<hyper::ext::ReasonPhrase>()
                && own.body().data == body
                && own.body().trailers == trailers
        }
        (Err(_), Err(_)) => true,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

const SAME: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 Fine with me\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 N\u{e3}o\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;\rx\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nhello",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "HTTP/1.0 200 OK\r\n\r\nuntil the end",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\nx-other: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX-Obs: \u{e9}\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX Space: 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nSpace : 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\n folded: 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
    "HTTP/1.1 99 Low\r\n\r\n",
    "HTTP/1.1 1000 High\r\n\r\n",
    "HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/1.1 200 O\0K\r\n\r\n",
    "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nX: 1\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/1.1 2",
    "",
];

#[tokio::test]
async fn responses_mean_what_they_mean_to_hyper() {
    let mut different = Vec::new();
    for method in [Method::GET, Method::HEAD, Method::POST] {
        for text in SAME {
            if !agrees(&method, text.as_bytes()).await {
                different.push((method.clone(), *text));
            }
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}

#[tokio::test]
async fn what_hyper_takes_and_nobody_should_is_refused() {
    for text in [
        // The field goes with this hop: nobody behind it could undo the coding.
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert!(!agrees(&Method::GET, text.as_bytes()).await, "{text}");
        let request = request("GET");
        assert!(
            read_response(&request, text.as_bytes(), 100).is_err(),
            "{text}"
        );
    }
}

#[test]
fn a_length_that_is_told_twice_is_told_on_once() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nhi";
    let response = read_response(&request("GET"), text, 100).unwrap();
    let mut lengths = response.headers().get_all(CONTENT_LENGTH).iter();
    assert_eq!(lengths.next().unwrap(), "2");
    assert_eq!(lengths.next(), None);
}

#[test]
fn a_switch_that_nobody_asked_for_is_refused() {
    let text = b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\n\r\n";
    let mut request = request("GET");
    assert!(read_response(&request, text, 100).is_err());
    request
        .headers_mut()
        .insert("upgrade", HeaderValue::from_static("x"));
    assert!(read_response(&request, text, 100).is_ok());
}

#[test]
fn what_has_no_end_is_cut_at_its_bound() {
    let field = |name: usize| format!("x-{name}: {}\r\n", "y".repeat(1_000));
    let head = |fields: usize, length: usize| {
        let fields: String = (0..fields)
            .map(|name| field(name)[..length].to_owned() + "\r\n")
            .collect();
        format!("HTTP/1.1 204 None\r\n{fields}\r\n")
    };
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = |bytes: usize| format!("{chunks}0;{}\r\n\r\n", "x".repeat(bytes));
    let trailers = |bytes: usize| format!("{chunks}0\r\nx: {}\r\n\r\n", "x".repeat(bytes));
    let size = crate::proxy::MAX_HEAD_BYTES;
    for (text, taken) in [
        (head(256, 20), true),
        (head(257, 20), false),
        (head(60, 1_000), true),
        (head(70, 1_000), false),
        (line(4_000), true),
        (line(4_200), false),
        (trailers(size - 100), true),
        (trailers(size + 100), false),
    ] {
        for piece in [1_000, usize::MAX] {
            let read = read_response(&request("GET"), text.as_bytes(), piece);
            assert_eq!(
                read.is_ok(),
                taken,
                "{} bytes: {:?}",
                text.len(),
                read.err()
            );
        }
    }
}

proptest! {
    #[test]
    fn chunks_of_any_size_in_any_pieces_are_one_body(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
        piece in 1usize..64,
    ) {
        let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            text.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        let read = read_response(&request("GET"), &text, piece).unwrap();
        prop_assert_eq!(&read.body().data, &chunks.concat());
        prop_assert!(read.body().keeps_alive);
        // Cut anywhere, it is never taken for whole.
        let cut = text.len() - 1 - piece % (text.len() - 1);
        prop_assert!(read_response(&request("GET"), &text[..cut], piece).is_err());
    }

    #[test]
    fn any_bytes_are_read_the_same_in_any_pieces(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        piece in 1usize..50,
    ) {
        let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
        text.extend_from_slice(&bytes);
        let whole = read_response(&request("GET"), &text, usize::MAX).map(Response::into_body);
        let pieces = read_response(&request("GET"), &text, piece).map(Response::into_body);
        prop_assert_eq!(whole.ok(), pieces.ok());
    }
}
