//! How responses are written, and what becomes of the connection.

use std::collections::VecDeque;
use std::pin::Pin;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};
use hyper::ext::ReasonPhrase;

use super::*;
use crate::proxy::body::CutShort;
use crate::proxy::downstream::http1::encode::{Asked, Begun};
use crate::proxy::downstream::http1::exchange::{Cut, Sending};
use crate::proxy::http1::FieldLines;

/// A body of these parts, all of which are there at once.
struct Parts(VecDeque<Result<Frame<Bytes>, CutShort>>);

impl Parts {
    fn of(parts: &[&'static str]) -> Self {
        let data = |part: &&'static str| Ok(Frame::data(Bytes::from_static(part.as_bytes())));
        Self(parts.iter().map(data).collect())
    }

    fn then(mut self, last: Result<Frame<Bytes>, CutShort>) -> Self {
        self.0.push_back(last);
        self
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        Poll::Ready(self.0.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// What the client of `request` gets of `response`, and what was decided.
async fn sent(request: &str, response: Response<Parts>) -> (String, Begun, Result<(), Cut>) {
    sent_with(&FieldLines::default(), request, response).await
}

/// The same of a response with these lines besides.
async fn sent_with(
    lines: &FieldLines,
    request: &str,
    response: Response<Parts>,
) -> (String, Begun, Result<(), Cut>) {
    let (connection, mut client) = connected().await;
    client.write_all(request.as_bytes()).await.unwrap();
    let head = opened(&connection).await;
    drop(Upload::of(&connection));
    let asked = Asked::by(&head.request);
    let kept = head.keeps_alive;
    let begun = connection
        .borrow_mut()
        .begin(&response, lines, &asked, kept);
    let mut sending = Sending::new(response, &asked, begun.outgoing);
    let send = async {
        let result = poll_fn(|cx| sending.poll(&connection, cx)).await;
        drop((sending, head, connection));
        result
    };
    let both = async { tokio::join!(send, read_to(&mut client, "")) };
    let (result, text) = timeout(Duration::from_secs(10), both)
        .await
        .expect("in time");
    (text, begun, result)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn sized(parts: &[&'static str]) -> Response<Parts> {
    let mut response = Response::new(Parts::of(parts));
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

#[tokio::test]
async fn a_body_of_known_length_is_sent_as_it_is() {
    let (text, begun, _) = sent(GET, sized(&["hello ", "world"])).await;
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world"
    );
    assert!(begun.keeps_alive);
    let (text, ..) = sent(GET, sized(&[])).await;
    assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

#[tokio::test]
async fn lines_that_nobody_read_go_before_what_tells_the_body_and_the_connection() {
    let head = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
    let mut fields = [httparse::EMPTY_HEADER; 3];
    let mut parsed = httparse::Response::new(&mut fields);
    parsed.parse(head).unwrap();
    let lines = FieldLines::of(head, parsed.headers);
    let (lines, _) = lines.expect("none of them needs a map");
    let mut response = Response::new(Parts::of(&["hello"]));
    let (text, begun, _) = sent_with(&lines, GET, response).await;
    let chunks = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(text, format!("HTTP/1.1 200 OK\r\nx-a: 1\r\n{chunks}"));
    assert!(begun.keeps_alive, "the upstream's close is its own");
    response = sized(&["hi"]);
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    let (text, begun, _) = sent_with(&lines, GET, response).await;
    let rest = "x-a: 1\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(
        text,
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{rest}")
    );
    assert!(!begun.keeps_alive);
}

#[tokio::test]
async fn one_of_unknown_length_is_sent_in_chunks_or_until_the_close() {
    let response = || Response::new(Parts::of(&["hello", " world"]));
    let (text, begun, _) = sent(GET, response()).await;
    let chunks = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    assert_eq!(
        text,
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
    );
    assert!(begun.keeps_alive);
    let old = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let (text, begun, _) = sent(old, response()).await;
    assert_eq!(text, "HTTP/1.0 200 OK\r\n\r\nhello world");
    assert!(!begun.keeps_alive);
}

#[tokio::test]
async fn the_client_is_told_whether_the_connection_is_kept() {
    let close = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    let (text, begun, _) = sent(close, sized(&["hi"])).await;
    assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
    assert!(!begun.keeps_alive);
    let old = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let (text, begun, _) = sent(old, sized(&["hi"])).await;
    assert!(text.contains("\r\nconnection: keep-alive\r\n"), "{text}");
    assert!(begun.keeps_alive);
    let mut response = sized(&["hi"]);
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    let (text, begun, _) = sent(GET, response).await;
    assert_eq!(text.matches("connection: close").count(), 1, "{text}");
    assert!(!begun.keeps_alive);
}

#[tokio::test]
async fn a_response_without_a_body_tells_its_length_where_it_may() {
    let told = |request: &'static str, status: u16| async move {
        let mut response = sized(&["hello"]);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let (text, begun, result) = sent(request, response).await;
        assert!(result.is_ok() && begun.keeps_alive, "{text}");
        assert!(text.ends_with("\r\n\r\n"), "no body: {text}");
        text.contains("content-length: 5\r\n")
    };
    assert!(told("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200).await);
    assert!(told(GET, 304).await);
    assert!(!told(GET, 204).await);
    assert!(!told("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 200).await);
}

#[tokio::test]
async fn a_reason_that_is_not_the_usual_one_is_passed_on() {
    let mut response = sized(&[]);
    let reason = ReasonPhrase::from_static(b"Fine with me");
    response.extensions_mut().insert(reason);
    let (text, ..) = sent(GET, response).await;
    assert!(text.starts_with("HTTP/1.1 200 Fine with me\r\n"), "{text}");
}

#[tokio::test]
async fn trailers_that_were_announced_go_to_a_client_that_takes_them() {
    let response = || {
        let fields = [("x-sum", "1"), ("x-other", "2")];
        let fields = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let trailers = Frame::trailers(HeaderMap::from_iter(fields));
        let mut response = Response::new(Parts::of(&["hi"]).then(Ok(trailers)));
        response
            .headers_mut()
            .insert(TRAILER, HeaderValue::from_static("x-sum"));
        response
    };
    let takes = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n";
    let (text, ..) = sent(takes, response()).await;
    assert!(text.ends_with("hi\r\n0\r\nx-sum: 1\r\n\r\n"), "{text}");
    let (text, ..) = sent(GET, response()).await;
    assert!(text.ends_with("hi\r\n0\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn what_came_before_a_break_is_sent_and_looks_like_no_whole() {
    let broken = Parts::of(&["hello"]).then(Err(CutShort::TooLong));
    let (text, _, result) = sent(GET, Response::new(broken)).await;
    assert!(text.ends_with("5\r\nhello\r\n"), "{text}");
    assert!(matches!(result, Err(Cut::Body(_))));
}

#[tokio::test]
async fn a_body_of_another_length_than_told_is_none() {
    for parts in [&["hi"][..], &["hello", "!"]] {
        let mut response = Response::new(Parts::of(parts));
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(5));
        let (_, _, result) = sent(GET, response).await;
        assert!(matches!(result, Err(Cut::Mismatch(_))), "{parts:?}");
    }
}

#[tokio::test]
async fn a_body_that_was_not_read_ends_the_connection() {
    for (sent_bytes, kept) in [("hi", true), ("h", false)] {
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{sent_bytes}");
        let (connection, mut client) = connected().await;
        client.write_all(post.as_bytes()).await.unwrap();
        let head = opened(&connection).await;
        drop(Upload::of(&connection));
        let asked = Asked::by(&head.request);
        let lines = FieldLines::default();
        let begun = connection
            .borrow_mut()
            .begin(&sized(&["ok"]), &lines, &asked, true);
        assert_eq!(begun.keeps_alive, kept, "{sent_bytes}");
    }
    let waits = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let (text, begun, _) = sent(waits, sized(&["no"])).await;
    assert!(
        text.starts_with("HTTP/1.1 200"),
        "nobody asks for the body: {text}"
    );
    assert!(!begun.keeps_alive);
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let large: &'static str = Box::leak("0123456789".repeat(500_000).into_boxed_str());
    let (text, _, result) = sent(GET, sized(&[large, large])).await;
    let body = text.split_once("\r\n\r\n").unwrap().1;
    assert!(result.is_ok() && body == large.repeat(2));
    let (text, _, result) = sent(GET, Response::new(Parts::of(&[large, large]))).await;
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let chunk = format!("{:x}\r\n{large}\r\n", large.len());
    assert!(result.is_ok() && body == format!("{chunk}{chunk}0\r\n\r\n"));
}
