//! The server on real sockets: what is read, what is written, and whether the client is there.

mod requests;
mod responses;
mod uploads;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::connection::{Awaited, Connection};
use super::head::Head;
use super::upload::{Upload, UploadError};
use crate::proxy::http1::Framing;

/// A connection, and the client's end of it.
async fn connected() -> (Rc<RefCell<Connection>>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let connection = Connection::new(stream, None, bytes::BytesMut::new());
    (Rc::new(RefCell::new(connection)), client)
}

/// What the client gets until its connection ends or what came ends with `end`.
async fn read_to(client: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) || end.is_empty() {
        let some = timeout(Duration::from_secs(10), client.read_buf(&mut read)).await;
        if some.expect("more").unwrap() == 0 {
            break;
        }
    }
    String::from_utf8(read).unwrap()
}

/// The next head, whose request is open from then on.
async fn opened(connection: &RefCell<Connection>) -> Head {
    let awaited = poll_fn(|cx| connection.borrow_mut().poll_head(cx));
    let awaited = timeout(Duration::from_secs(10), awaited).await;
    let Awaited::Head(head) = awaited.expect("a head in time") else {
        panic!("no head");
    };
    connection.borrow_mut().opens(&head);
    head
}

/// Whether the client is taken for gone, as things are.
fn is_gone(connection: &RefCell<Connection>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    connection.borrow_mut().poll_gone(&mut cx).is_ready()
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte_and_others_behind_it() {
    let (connection, mut client) = connected().await;
    let bytes = b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\n\r\n";
    let send = async {
        for byte in bytes {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (one, ()) = tokio::join!(opened(&connection), send);
    assert_eq!(one.request.uri(), "/one");
    connection.borrow_mut().closes();
    let two = opened(&connection).await;
    assert_eq!(two.request.uri(), "/two");
    connection.borrow_mut().closes();
    client.shutdown().await.unwrap();
    let end = poll_fn(|cx| connection.borrow_mut().poll_head(cx)).await;
    assert!(matches!(end, Awaited::Closed));
}

#[tokio::test]
async fn a_body_is_read_by_whoever_has_it_and_the_next_request_comes_behind_it() {
    let (connection, mut client) = connected().await;
    let head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    let body = vec![b'x'; 100_000];
    let send = async {
        client.write_all(head).await.unwrap();
        client.write_all(&body).await.unwrap();
        let next = b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(next).await.unwrap();
    };
    let read = async {
        opened(&connection).await;
        let upload = Upload::of(&connection);
        let body = upload.collect().await.unwrap().to_bytes();
        connection.borrow_mut().closes();
        (body, opened(&connection).await)
    };
    let ((read, next), ()) = tokio::join!(read, send);
    assert_eq!(read, body);
    assert_eq!(next.request.uri(), "/b");
}

#[tokio::test]
async fn a_client_that_waits_is_asked_to_go_on_when_its_body_is_wanted() {
    let (connection, mut client) = connected().await;
    let head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head).await.unwrap();
    opened(&connection).await;
    let upload = Upload::of(&connection);
    let client = async {
        let asked = read_to(&mut client, "\r\n\r\n").await;
        client.write_all(b"hi").await.unwrap();
        asked
    };
    let (body, asked) = tokio::join!(upload.collect(), client);
    assert_eq!(asked, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(body.unwrap().to_bytes(), "hi");
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error() {
    for (head, body) in [
        ("Content-Length: 10", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
    ] {
        let (connection, mut client) = connected().await;
        let text = format!("POST /a HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}");
        client.write_all(text.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        opened(&connection).await;
        let read = Upload::of(&connection).collect().await;
        assert!(matches!(read, Err(UploadError::Closed)), "{head}");
        assert!(connection.borrow().may_leave_unread());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_closed_its_side_has_five_seconds() {
    let (connection, mut client) = connected().await;
    let request = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(request).await.unwrap();
    opened(&connection).await;
    assert!(!is_gone(&connection), "it waits");
    client.shutdown().await.unwrap();
    let gone = poll_fn(|cx| connection.borrow_mut().poll_gone(cx));
    let before = tokio::time::Instant::now();
    gone.await;
    assert_eq!(before.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_client_that_resets_is_gone_at_once() {
    let (connection, mut client) = connected().await;
    let request = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(request).await.unwrap();
    opened(&connection).await;
    client.set_zero_linger().unwrap();
    drop(client);
    let gone = poll_fn(|cx| connection.borrow_mut().poll_gone(cx));
    timeout(Duration::from_secs(4), gone)
        .await
        .expect("at once");
}

#[tokio::test]
async fn what_comes_behind_a_request_is_no_sign_that_its_client_is_gone() {
    let (connection, mut client) = connected().await;
    let request = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(request).await.unwrap();
    opened(&connection).await;
    assert!(!is_gone(&connection));
    client.write_all(request).await.unwrap();
    client.shutdown().await.unwrap();
    for _ in 0..100 {
        assert!(!is_gone(&connection));
        tokio::task::yield_now().await;
    }
    connection.borrow_mut().closes();
    assert_eq!(opened(&connection).await.request.uri(), "/a");
}

#[tokio::test]
async fn whoever_waits_for_the_end_of_a_body_is_woken() {
    for reads in [true, false] {
        let (connection, mut client) = connected().await;
        let head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";
        client.write_all(head).await.unwrap();
        opened(&connection).await;
        let upload = Upload::of(&connection);
        let ended = poll_fn(|cx| connection.borrow_mut().poll_uploaded(cx));
        let other = async {
            tokio::task::yield_now().await;
            if reads {
                client.write_all(b"hi").await.unwrap();
                upload.collect().await.unwrap();
            } else {
                drop(upload);
            }
        };
        let both = async { tokio::join!(ended, other) };
        timeout(Duration::from_secs(10), both).await.expect("woken");
        let framing = connection.borrow().framing();
        assert_eq!(framing == Framing::Ended, reads);
    }
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_passed_over_as_far_as_it_has_come() {
    for (body, all) in [("hello", true), ("hell", false)] {
        let (connection, mut client) = connected().await;
        let text = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{body}");
        client.write_all(text.as_bytes()).await.unwrap();
        opened(&connection).await;
        drop(Upload::of(&connection));
        assert_eq!(connection.borrow_mut().discard(), all, "{body}");
    }
}

#[tokio::test]
async fn what_a_client_still_sends_is_read_before_its_connection_is_closed() {
    let (connection, mut client) = connected().await;
    client.write_all(&vec![b'x'; 100_000]).await.unwrap();
    let connection = Rc::try_unwrap(connection).ok().unwrap().into_inner();
    let client = async {
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "no reset");
        client.write_all(&vec![b'x'; 100_000]).await.unwrap();
        client.shutdown().await.unwrap();
        drop(client);
    };
    let both = async { tokio::join!(connection.linger(), client) };
    timeout(Duration::from_secs(10), both)
        .await
        .expect("in time");
}
