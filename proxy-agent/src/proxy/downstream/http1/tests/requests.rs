//! What requests mean, beside what they mean to hyper's server.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::*;
use crate::proxy::MAX_HEADERS;
use crate::proxy::downstream::http1::whole::{WholeRequest, read_request};
use crate::proxy::http1::damaged;

type Read = Result<(Parts, Bytes, Option<HeaderMap>), ()>;

/// The first request as hyper's server reads it, from a client that closes behind it.
async fn by_hyper(bytes: &[u8]) -> Read {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    far.write_all(bytes).await.unwrap();
    far.shutdown().await.unwrap();
    let first = RefCell::new(None);
    let service = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let read = match body.collect().await {
            Ok(body) => {
                let trailers = body.trailers().cloned();
                Ok((head, body.to_bytes(), trailers))
            }
            Err(_) => Err(()),
        };
        first.borrow_mut().get_or_insert(read);
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let mut builder = http1::Builder::new();
    builder.half_close(true).max_headers(MAX_HEADERS);
    // How the connection ends is another matter.
    let _ = builder.serve_connection(TokioIo::new(near), service).await;
    first.into_inner().unwrap_or(Err(()))
}

/// Whether a request means to the agent what it means to hyper, however it comes.
async fn agrees(bytes: &[u8]) -> bool {
    let whole = read_request(bytes, usize::MAX);
    for piece in [1, 2, 7] {
        let pieces = read_request(bytes, piece);
        let body = |read: &Result<Request<WholeRequest>, String>| {
            read.as_ref().map(|request| request.body().clone()).ok()
        };
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(body(&pieces), body(&whole), "in pieces of {piece}: {text}");
    }
    match (whole, by_hyper(bytes).await) {
        (Ok(own), Ok((head, body, trailers))) => {
            own.method() == head.method
                && *own.uri() == head.uri
                && own.version() == head.version
                && *own.headers() == head.headers
                && own.body().body.data == body
                && own.body().body.trailers == trailers
        }
        (Err(_), Err(())) => true,
        (Ok(_), Err(())) | (Err(_), Ok(_)) => false,
    }
}

const SAME: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET /a?b=c%20d HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a:80/b?c HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n",
    "get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http:// HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "GET /\r\nHost: a\r\n\r\n",
    "G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET / HTTP/1.1\r\n folded: a\r\n\r\n",
    "GET / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\nX: \u{e9}\r\n\r\n",
    "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
    "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
    "GET / HTTP/1.1\r\nX\r\n\r\n",
    "GET / HTTP/1.1\r\nX: 1\r\nY: 2\r\nX: 3\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello behind",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell",
    "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "POST / HTTP/1.1\r\n\r\nhello",
    "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: 5, 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: \r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\nhello",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: CHUNKED\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nmore",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH-2.0-OpenSSH_9.2\r\n",
    "\x16\x03\x01\x02",
    "",
];

#[tokio::test]
async fn requests_mean_what_they_mean_to_hyper() {
    let mut different = Vec::new();
    for text in SAME {
        if !agrees(text.as_bytes()).await {
            different.push((*text, read_request(text.as_bytes(), 100)));
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}

#[tokio::test]
async fn what_hyper_takes_and_nobody_should_is_refused() {
    for text in [
        // The field goes with this hop: nobody behind it could undo the coding.
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert!(!agrees(text.as_bytes()).await, "{text}");
        assert!(read_request(text.as_bytes(), 100).is_err(), "{text}");
    }
}

#[test]
fn behind_a_request_with_two_lengths_nothing_is_read() {
    let text =
        b"POST / HTTP/1.1\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG";
    let request = read_request(text, 100).unwrap();
    assert!(!request.body().keeps_alive);
    assert_eq!(request.body().rest, b"G");
    let text = b"POST / HTTP/1.1\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nhi";
    let request = read_request(text, 100).unwrap();
    let mut lengths = request.headers().get_all(CONTENT_LENGTH).iter();
    assert_eq!(
        (lengths.next().unwrap(), lengths.next()),
        (&"2".parse().unwrap(), None)
    );
}

#[test]
fn a_connection_is_kept_as_the_client_asks() {
    for (version, field, kept) in [
        ("1.1", "X: y", true),
        ("1.1", "Connection: close", false),
        ("1.1", "Connection: x, Close", false),
        ("1.1", "Connection: closer", true),
        ("1.0", "X: y", false),
        ("1.0", "Connection: keep-alive", true),
        ("1.0", "Connection: keep-alive, close", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\n{field}\r\n\r\n");
        let request = read_request(text.as_bytes(), 100).unwrap();
        assert_eq!(request.body().keeps_alive, kept, "{text}");
    }
}

#[test]
fn what_has_no_end_is_cut_at_its_bound() {
    let fields = |count: usize, bytes: usize| {
        let fields: String = (0..count)
            .map(|n| format!("x-{n}: {}\r\n", "y".repeat(bytes)))
            .collect();
        format!("GET / HTTP/1.1\r\n{fields}\r\n")
    };
    let chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = |bytes: usize| format!("{chunks}0;{}\r\n\r\n", "x".repeat(bytes));
    for (text, taken) in [
        (fields(MAX_HEADERS, 1), true),
        (fields(MAX_HEADERS + 1, 1), false),
        (fields(60, 1_000), true),
        (fields(70, 1_000), false),
        (line(4_000), true),
        (line(4_200), false),
    ] {
        for piece in [1_000, usize::MAX] {
            let read = read_request(text.as_bytes(), piece);
            assert_eq!(read.is_ok(), taken, "{} bytes", text.len());
        }
    }
}

#[test]
fn lines_of_trailers_end_as_others_read_them() {
    for (trailers, taken) in [
        ("x: 1\r\n\r\n", true),
        ("x: 1\r\ny: 2\r\n\r\n", true),
        ("x: 1\n\r\n", false),
        ("x: 1\r\n\n", false),
        ("x: 1\n\n", false),
        ("x: 1\ny: 2\r\n\r\n", false),
    ] {
        let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}");
        for piece in [1, usize::MAX] {
            let read = read_request(text.as_bytes(), piece);
            assert_eq!(read.is_ok(), taken, "{trailers:?} in pieces of {piece}");
        }
    }
}

/// In every place, in every way.
#[test]
fn damaged_requests_are_refused_or_mean_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut different = Vec::new();
    for bytes in SAME.iter().flat_map(|text| damaged(text)) {
        let same = runtime.block_on(agrees(&bytes));
        if !same && read_request(&bytes, usize::MAX).is_ok() {
            different.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}
