//! What responses mean, beside what they mean to hyper's client.

use std::pin::pin;

use http::{HeaderMap, Method};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;

use super::*;
use crate::proxy::http1::damaged;
use crate::proxy::upstream::http1::whole;

/// A response whose fields are read.
fn read_response<B>(
    request: &Request<B>,
    bytes: &[u8],
    piece: usize,
) -> Result<Response<WholeResponse>, String> {
    whole::read_response(request, bytes, piece, Read)
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
        let pieces = read_response(&request, bytes, piece);
        assert_eq!(
            pieces.map(Response::into_body).ok().as_ref(),
            whole.as_ref().map(Response::body).ok(),
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
                && own.body().body.data == body
                && own.body().body.trailers == trailers
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

/// In every place, in every way.
#[test]
fn damaged_responses_are_refused_or_mean_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut different = Vec::new();
    for bytes in SAME.iter().flat_map(|text| damaged(text)) {
        let same = runtime.block_on(agrees(&Method::GET, &bytes));
        if !same && read_response(&request("GET"), &bytes, usize::MAX).is_ok() {
            different.push(String::from_utf8_lossy(&bytes).into_owned());
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
        prop_assert_eq!(&read.body().body.data, &chunks.concat());
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

#[test]
fn news_of_progress_are_bounded() {
    let progress =
        |times: usize| "HTTP/1.1 103 Early\r\n\r\n".repeat(times) + "HTTP/1.1 204 None\r\n\r\n";
    let read = |times| read_response(&request("GET"), progress(times).as_bytes(), 1_000).is_ok();
    assert!(read(99) && !read(100));
}
