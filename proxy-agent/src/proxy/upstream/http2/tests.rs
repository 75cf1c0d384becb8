//! Requests to an endpoint that speaks HTTP/2: plain h2, or bytes as a test puts them.

mod beside;

use std::time::Duration;

use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream, SendStream};
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::proxy::tee::Feed;

type Server = Box<h2::server::Connection<TcpStream, Bytes>>;

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let timed = timeout(Duration::from_secs(10), future);
    timed.await.expect("in time")
}

/// A connection, and the endpoint's socket.
async fn connected() -> (Rc<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, accepted) = tokio::join!(near, listener.accept());
    let connection = Connection::begin(near.unwrap()).await.unwrap();
    (connection, accepted.unwrap().0)
}

/// Reads to the end of a head.
async fn head_came(far: &mut TcpStream) {
    const PREFACE: usize = 24;
    let mut read = vec![0; PREFACE];
    in_time(far.read_exact(&mut read)).await.unwrap();
    loop {
        let mut header = [0; 9];
        in_time(far.read_exact(&mut header)).await.unwrap();
        let [_, b, c, kind, ..] = header;
        let mut payload = vec![0; usize::from(b) << 8 | usize::from(c)];
        in_time(far.read_exact(&mut payload)).await.unwrap();
        if kind == 1 {
            return;
        }
    }
}

/// What comes next of a body.
async fn next(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    loop {
        let data = in_time(body.data()).await;
        // The end may be an empty frame.
        if !matches!(&data, Some(Ok(data)) if data.is_empty()) {
            return data;
        }
    }
}

/// A connection to an endpoint that allows so many streams.
async fn allowing(streams: u32) -> (Rc<Connection>, Server) {
    let (connection, far) = connected().await;
    let mut builder = h2::server::Builder::new();
    let server = builder.max_concurrent_streams(streams).handshake(far);
    (connection, Box::new(in_time(server).await.unwrap()))
}

fn request(method: Method) -> Box<Request<RequestBody>> {
    let request = Request::builder().method(method).uri("http://svc/a?b");
    Box::new(request.body(RequestBody::Empty).unwrap())
}

fn streamed() -> (Feed, Box<Request<RequestBody>>) {
    let (feed, body) = Feed::new();
    (feed, Box::new(request(Method::POST).map(|_| body)))
}

fn frame(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

/// The next request; the connection is served on.
async fn accepted(mut server: Server) -> (Request<RecvStream>, SendResponse<Bytes>) {
    let accepted = in_time(server.accept()).await.expect("one").unwrap();
    tokio::task::spawn_local(async move { while server.accept().await.is_some() {} });
    accepted
}

/// As long as the response lasts, nobody but it counts the stream.
async fn send(
    connection: &Rc<Connection>,
    request: Box<Request<RequestBody>>,
    may_repeat: bool,
) -> Result<Response<Download>, SendError> {
    let stream = Stream::of(Rc::clone(connection));
    stream.send(request, may_repeat).await
}

/// What comes of a request that the endpoint resets for this reason.
async fn reset(code: Code) -> SendError {
    let (connection, server) = allowing(9).await;
    let endpoint = async {
        let (_request, mut respond) = accepted(server).await;
        respond.send_reset(code);
    };
    let sent = send(&connection, request(Method::GET), true);
    let (sent, ()) = in_time(async { tokio::join!(sent, endpoint) }).await;
    sent.err().expect("no answer")
}

#[tokio::test(flavor = "local")]
async fn a_request_and_its_response_pass_whole() {
    let (connection, server) = allowing(9).await;
    let endpoint = async {
        let (request, mut respond) = accepted(server).await;
        assert_eq!(request.uri(), "http://svc/a?b");
        assert_eq!(request.headers()["x"], "y");
        assert!(request.body().is_end_stream());
        let response = Response::builder().status(201).header(CONTENT_LENGTH, 2);
        let response = response.body(()).unwrap();
        let mut stream = respond.send_response(response, false).unwrap();
        stream.send_data(Bytes::from_static(b"hi"), true).unwrap();
    };
    let mut asked = request(Method::GET);
    asked.headers_mut().insert("x", "y".parse().unwrap());
    let sent = send(&connection, asked, false);
    let (sent, ()) = in_time(async { tokio::join!(sent, endpoint) }).await;
    let response = sent.ok().expect("an answer");
    assert_eq!(response.status(), StatusCode::CREATED);
    let body = response.into_body();
    assert_eq!(body.size_hint().exact(), Some(2));
    assert_eq!(in_time(body.collect()).await.unwrap().to_bytes(), "hi");
    assert!(!connection.is_closed());
}

#[tokio::test(flavor = "local")]
async fn a_connection_has_room_for_as_many_streams_as_its_endpoint_allows() {
    let (connection, mut server) = allowing(2).await;
    // The endpoint's settings have come when a stream was answered.
    let asked = send(&connection, request(Method::GET), false);
    let endpoint = async {
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        respond.send_response(Response::new(()), true).unwrap();
        poll_fn(|cx| Poll::Ready(server.poll_closed(cx))).await
    };
    let (sent, _) = in_time(async { tokio::join!(asked, endpoint) }).await;
    assert!(sent.is_ok_and(|response| response.body().is_end_stream()));
    assert!(!connection.is_busy());
    let _first = Stream::of(Rc::clone(&connection));
    assert!(connection.has_room(), "for a second");
    let second = Stream::of(Rc::clone(&connection));
    assert!(!connection.has_room(), "for a third");
    let again = Rc::clone(&second);
    drop(second);
    assert!(!connection.has_room(), "one stream, however many hold it");
    drop(again);
    assert!(connection.has_room() && connection.is_busy());
}

#[tokio::test(flavor = "local")]
async fn requests_beyond_what_the_endpoint_allows_wait_behind_each_other() {
    let (connection, mut server) = allowing(1).await;
    tokio::task::spawn_local(async move {
        while let Some(Ok((_request, mut respond))) = server.accept().await {
            respond.send_response(Response::new(()), true).unwrap();
        }
    });
    let get = async || {
        let sent = send(&connection, request(Method::GET), false);
        in_time(sent).await.is_ok()
    };
    assert!(get().await, "the limit is known from here on");
    assert_eq!(tokio::join!(get(), get(), get()), (true, true, true));
    assert!(!connection.is_closed());
}

#[tokio::test(flavor = "local")]
async fn a_request_to_a_connection_that_is_gone_comes_back_unsent() {
    let (connection, mut server) = allowing(9).await;
    server.graceful_shutdown();
    in_time(async { while server.accept().await.is_some() {} }).await;
    drop(server);
    in_time(async {
        while !connection.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (feed, request) = streamed();
    feed.push(frame("hello"));
    let sent = in_time(send(&connection, request, false)).await;
    let Err(SendError::Unsent(returned)) = sent else {
        panic!("it is unsent");
    };
    assert_eq!(returned.uri(), "http://svc/a?b");
    feed.end();
    let body = returned.into_body().collect().await.expect("the body");
    assert_eq!(body.to_bytes(), "hello");
}

#[tokio::test(flavor = "local")]
async fn a_request_on_a_connection_that_dies_comes_back_if_it_may_go_twice() {
    for may_repeat in [true, false] {
        let (connection, far) = connected().await;
        let mut asked = request(Method::GET);
        asked.headers_mut().insert("x", "y".parse().unwrap());
        let endpoint = async {
            let mut far = far;
            head_came(&mut far).await;
        };
        let sent = send(&connection, asked, may_repeat);
        let (sent, ()) = in_time(async { tokio::join!(sent, endpoint) }).await;
        match sent.err().expect("no answer") {
            SendError::Unanswered(copy) => {
                assert!(may_repeat);
                assert_eq!(copy.headers()["x"], "y");
                assert_eq!(copy.method(), Method::GET);
            }
            SendError::Failed(reason) => {
                assert!(!may_repeat);
                assert_eq!(reason, Reason::UpstreamReset);
            }
            SendError::Unsent(_) => panic!("it was sent"),
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_stream_that_is_refused_unseen_comes_back_and_one_that_is_reset_does_not() {
    assert!(matches!(
        reset(Code::REFUSED_STREAM).await,
        SendError::Unanswered(_)
    ));
    for code in [Code::CANCEL, Code::INTERNAL_ERROR, Code::NO_ERROR] {
        assert!(matches!(
            reset(code).await,
            SendError::Failed(Reason::UpstreamReset)
        ));
    }
}

#[tokio::test(flavor = "local")]
async fn a_stream_beyond_the_last_of_a_goaway_is_refused_unseen() {
    for may_repeat in [true, false] {
        let (connection, mut far) = connected().await;
        let endpoint = async {
            head_came(&mut far).await;
            let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            // The last stream that was looked at is none; NO_ERROR.
            let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            far.write_all(&[&settings[..], &goaway].concat())
                .await
                .unwrap();
        };
        let sent = send(&connection, request(Method::GET), may_repeat);
        let (sent, ()) = in_time(async { tokio::join!(sent, endpoint) }).await;
        match sent.err() {
            Some(SendError::Unanswered(_)) => assert!(may_repeat),
            Some(SendError::Failed(Reason::UpstreamRefused)) => assert!(!may_repeat),
            other => panic!("{}", other.is_some()),
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_request_without_the_body_that_it_has_by_nature_says_so() {
    for (method, told) in [(Method::POST, true), (Method::GET, false)] {
        let (connection, server) = allowing(9).await;
        let endpoint = async {
            let (request, mut respond) = accepted(server).await;
            respond.send_response(Response::new(()), true).unwrap();
            request.headers().contains_key(CONTENT_LENGTH)
        };
        let sent = send(&connection, request(method), false);
        let (_sent, said) = in_time(async { tokio::join!(sent, endpoint) }).await;
        assert_eq!(said, told);
    }
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_is_no_http_is_told_as_such() {
    let (connection, mut far) = connected().await;
    let endpoint = async {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        // Status 200, and a field named `A`, which no field may be (RFC 9113, section 8.2.1).
        let fields = [0x88, 0x00, 1, b'A', 1, b'b'];
        let head = [0, 0, 6, 1, 5, 0, 0, 0, 1];
        let bytes = [&settings[..], &head, &fields].concat();
        head_came(&mut far).await;
        far.write_all(&bytes).await.unwrap();
        far
    };
    let sent = send(&connection, request(Method::GET), false);
    let (sent, _far) = in_time(async { tokio::join!(sent, endpoint) }).await;
    assert!(matches!(
        sent.err(),
        Some(SendError::Failed(Reason::UpstreamProtocol))
    ));
}

#[tokio::test(flavor = "local")]
async fn a_body_that_breaks_off_is_the_clients_and_resets_the_stream() {
    let (connection, server) = allowing(9).await;
    let (feed, request) = streamed();
    feed.push(frame("hello"));
    let endpoint = async {
        let (request, _respond) = accepted(server).await;
        let mut body = request.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "hello");
        feed.break_off();
        body.data().await
    };
    let sent = send(&connection, request, false);
    let (sent, end) = in_time(async { tokio::join!(sent, endpoint) }).await;
    assert!(matches!(
        sent.err(),
        Some(SendError::Failed(Reason::BadRequest))
    ));
    assert!(end.is_some_and(|end| end.is_err()), "never a clean end");
}

#[tokio::test(flavor = "local")]
async fn a_tunnel_whose_upstream_has_said_all_at_once_is_one() {
    let (connection, server) = allowing(9).await;
    let mut asked = request(Method::CONNECT);
    *asked.uri_mut() = "svc:80".parse().unwrap();
    let endpoint = async {
        let (request, mut respond) = accepted(server).await;
        respond.send_response(Response::new(()), true).unwrap();
        request.into_body()
    };
    let sent = send(&connection, asked, false);
    let (sent, mut body) = in_time(async { tokio::join!(sent, endpoint) }).await;
    let tunnel = sent.ok().expect("an answer").into_body().into_tunnel();
    let mut tunnel = tunnel.expect("a tunnel");
    assert_eq!(in_time(tunnel.read(&mut [0])).await.unwrap(), 0);
    tunnel.write_all(b"hi").await.unwrap();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "hi");
}

#[tokio::test(flavor = "local")]
async fn connect_becomes_a_tunnel_and_nothing_else_does() {
    for method in [Method::CONNECT, Method::GET] {
        let (connection, server) = allowing(9).await;
        let mut asked = request(method.clone());
        if method == Method::CONNECT {
            *asked.uri_mut() = "svc:80".parse().unwrap();
        }
        let endpoint = async {
            let (_request, mut respond) = accepted(server).await;
            respond.send_response(Response::new(()), false).unwrap()
        };
        let sent = send(&connection, asked, false);
        let (sent, mut stream) = in_time(async { tokio::join!(sent, endpoint) }).await;
        let tunnel = sent.ok().expect("an answer").into_body().into_tunnel();
        assert_eq!(tunnel.is_some(), method == Method::CONNECT);
        if let Some(mut tunnel) = tunnel {
            stream.send_data(Bytes::from_static(b"hi"), true).unwrap();
            let mut read = Vec::new();
            in_time(tunnel.read_to_end(&mut read)).await.unwrap();
            assert_eq!(read, b"hi");
        }
    }
}
