//! A response that begins, or ends, before its request has ended.

use super::*;

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
    let (sent, ()) = tokio::join!(connection.send(Box::new(request), Read), head);
    let mut body = download(sent);
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
async fn early(bytes: &[u8]) -> (Feed, Download, TcpStream) {
    let (connection, mut upstream) = connected().await;
    let (feed, request) = streamed(None);
    let answer = async {
        read_to(&mut upstream, "chunked\r\n\r\n").await;
        upstream.write_all(bytes).await.unwrap();
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request), Read), answer);
    (feed, download(sent), upstream)
}

#[tokio::test(flavor = "local")]
async fn after_a_response_that_ended_before_it_a_request_still_arrives_whole() {
    let (feed, response, mut upstream) =
        early(b"HTTP/1.1 202 Taken\r\nContent-Length: 0\r\n\r\n").await;
    assert!(response.into_idle().is_none(), "it is in use");
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
    let mut body = response;
    let (frame, ()) = tokio::join!(body.frame(), async { feed.break_off() });
    assert!(matches!(frame, Some(Err(Error::Body(_)))));
    drop(body);
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0, "closed");
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
    let (sent, ()) = tokio::join!(connection.send(Box::new(request), Read), answer);
    let response = sent.ok().expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "no"
    );
}
