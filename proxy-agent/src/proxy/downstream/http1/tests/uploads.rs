//! Bodies that are read by others than the task of their connection, and for longer.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body as _;

use super::*;
use crate::proxy::body::ResponseBody;
use crate::proxy::downstream::http1::encode::Asked;
use crate::proxy::downstream::http1::exchange::{After, send};
use crate::proxy::reply::Reply;

const POST: &[u8] = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";
const WAITS: &[u8] =
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";

/// A connection with an open request, and its body.
async fn uploading(head: &[u8]) -> (Rc<RefCell<Connection>>, TcpStream, Upload, Asked) {
    let (connection, mut client) = connected().await;
    client.write_all(head).await.unwrap();
    let asked = Asked::by(&opened(&connection).await.request);
    let upload = Upload::of(&connection);
    (connection, client, upload, asked)
}

fn answer() -> Reply {
    let body = ResponseBody::Direct(Some(Bytes::from_static(b"ok")));
    Box::new(Response::new(body))
}

async fn next(upload: &mut Upload) -> Option<Result<Bytes, UploadError>> {
    let frame = timeout(Duration::from_secs(10), upload.frame()).await;
    let frame = frame.expect("in time")?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

#[tokio::test]
async fn a_body_that_was_read_has_no_part_in_the_next_request() {
    let (connection, mut client, mut first, _) = uploading(POST).await;
    client.write_all(b"hi").await.unwrap();
    assert_eq!(next(&mut first).await.unwrap().unwrap(), "hi");
    connection.borrow_mut().closes();
    client.write_all(POST).await.unwrap();
    client.write_all(b"yo").await.unwrap();
    opened(&connection).await;
    let mut second = Upload::of(&connection);
    assert!(next(&mut first).await.is_none());
    drop(first);
    assert!(connection.borrow().is_uploading(), "the second one is");
    assert_eq!(next(&mut second).await.unwrap().unwrap(), "yo");
}

#[tokio::test]
async fn a_body_may_come_behind_the_end_of_its_response() {
    let (connection, mut client, mut upload, asked) = uploading(POST).await;
    let send = send(&connection, answer(), &asked, true);
    let later = async {
        let answer = read_to(&mut client, "ok").await;
        assert!(!answer.contains("close"), "{answer}");
        client.write_all(b"hi").await.unwrap();
        next(&mut upload).await.unwrap().unwrap()
    };
    let (after, body) = tokio::join!(send, later);
    assert!(matches!(after, Ok(After::Next)));
    assert_eq!(body, "hi");
}

#[tokio::test]
async fn a_body_that_stands_still_behind_its_response_ends_the_connection() {
    let (connection, mut client, mut upload, asked) = uploading(POST).await;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let after = send(&connection, answer(), &asked, true).await;
    assert!(matches!(after, Ok(After::Close)));
    assert_eq!(before.elapsed().as_secs(), 10);
    drop(connection);
    assert!(matches!(
        next(&mut upload).await,
        Some(Err(UploadError::Closed))
    ));
    assert!(read_to(&mut client, "").await.ends_with("ok"));
}

#[tokio::test]
async fn what_a_client_was_not_asked_for_is_not_read() {
    let (connection, mut client, mut upload, asked) = uploading(WAITS).await;
    let after = send(&connection, answer(), &asked, true).await;
    assert!(matches!(after, Ok(After::Close)));
    // It might as well be a request.
    client.write_all(b"GE").await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        let read = std::pin::Pin::new(&mut upload).poll_frame(&mut cx);
        assert!(read.is_pending());
        tokio::task::yield_now().await;
    }
    let (read, ()) = tokio::join!(next(&mut upload), async { drop(connection) });
    assert!(matches!(read, Some(Err(UploadError::Closed))), "woken");
    let answer = read_to(&mut client, "ok").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "no 100: {answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn what_came_behind_the_last_request_is_not_left_unread() {
    let (connection, mut client) = connected().await;
    let request = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.unwrap();
    opened(&connection).await;
    assert!(!is_gone(&connection) && !connection.borrow().may_leave_unread());
    client.write_all(request).await.unwrap();
    let seen = async {
        while !connection.borrow().may_leave_unread() {
            assert!(!is_gone(&connection));
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), seen).await.expect("seen");
}

#[tokio::test]
async fn a_connect_that_leads_nowhere_ends_the_connection() {
    let (connection, mut client) = connected().await;
    for (method, goes_on) in [("CONNECT a:1", false), ("GET /", true)] {
        let request = format!("{method} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let asked = Asked::by(&opened(&connection).await.request);
        let mut response = Box::new(Response::new(ResponseBody::Empty));
        *response.status_mut() = StatusCode::OK;
        let after = send(&connection, response, &asked, true).await;
        assert_eq!(matches!(after, Ok(After::Next)), goes_on, "{method}");
    }
}
