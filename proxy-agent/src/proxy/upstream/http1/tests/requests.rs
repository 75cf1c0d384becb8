//! Requests as they arrive.

use http::HeaderMap;

use super::*;

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
        let Err(unanswered) = connection.send(Box::new(request), Read).await else {
            panic!("answered");
        };
        assert!(matches!(unanswered.error, Error::Mismatch(_)));
        assert_eq!(unanswered.error.reason(), Reason::BadRequest);
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
        let (answered, read) = tokio::join!(connection.send(Box::new(request), Read), upstream);
        let body = download(answered);
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
