//! Bodies and tunnels on real streams: one end is the agent's, the other plain h2.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{Duplex, Inbound, Outbound, Unsent};
use crate::proxy::body::RequestBody;
use crate::proxy::tee::Feed;

/// A window that a test can fill.
const WINDOW: u32 = 1_000;

/// A request under way.
struct Stream {
    response: ResponseFuture,
    send: SendStream<Bytes>,
    received: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

/// A request with this head, on a connection of its own, whose server takes [`WINDOW`] bytes.
async fn stream(request: Request<()>) -> Stream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut server = h2::server::Builder::new();
    let server = server.initial_window_size(WINDOW).handshake(far);
    let (client, server) = tokio::join!(h2::client::handshake(near), server);
    let ((mut sender, connection), mut server) = (client.unwrap(), server.unwrap());
    tokio::task::spawn_local(connection);
    // The server's settings are known from here on.
    let response = sender.send_request(request, false);
    let accepted = server.accept().await.expect("a request").unwrap();
    tokio::task::spawn_local(async move { while server.accept().await.is_some() {} });
    let ((response, send), (received, respond)) = (response.unwrap(), accepted);
    Stream {
        response,
        send,
        received,
        respond,
    }
}

async fn post() -> Stream {
    stream(Request::post("http://svc/").body(()).unwrap()).await
}

/// A request's body on its way, and what keeps its stream open.
async fn upload() -> (
    SendStream<Bytes>,
    Request<RecvStream>,
    (ResponseFuture, SendResponse<Bytes>),
) {
    let stream = post().await;
    let open = (stream.response, stream.respond);
    (stream.send, stream.received, open)
}

fn inbound(received: Request<RecvStream>) -> Inbound {
    let (head, stream) = received.into_parts();
    Inbound::of(&head.headers, stream).expect("a body")
}

fn data(bytes: &[u8]) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(bytes))
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let timed = tokio::time::timeout(Duration::from_secs(10), future);
    timed.await.expect("in time")
}

async fn sent(mut outbound: Outbound<RequestBody>) -> Result<(), String> {
    let sent = in_time(poll_fn(|cx| outbound.poll(cx))).await;
    sent.map_err(|unsent| match unsent {
        Unsent::Body(error) => format!("body: {error}"),
        Unsent::Stream(error) => format!("stream: {error}"),
    })
}

#[tokio::test(flavor = "local")]
async fn bodies_larger_than_any_window_arrive_whole_with_their_trailers() {
    let (send, received, _open) = upload().await;
    let (feed, body) = Feed::new();
    let mut expected = Vec::new();
    for (length, byte) in [1, 0, 5_000, 16_384, 100_000, 7].into_iter().zip(b'a'..) {
        let chunk = vec![byte; length];
        feed.push_large(Bytes::copy_from_slice(&chunk));
        expected.extend(chunk);
    }
    let trailers = HeaderMap::from_iter([("a".parse().unwrap(), "b".parse().unwrap())]);
    feed.push(Frame::trailers(trailers.clone()));
    let (sent, collected) = tokio::join!(
        sent(Outbound::new(body, send)),
        in_time(inbound(received).collect())
    );
    sent.unwrap();
    let collected = collected.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
    assert_eq!(collected.to_bytes(), expected);
}

/// Counts what is written.
struct Counted<Io> {
    io: Io,
    writes: Rc<Cell<usize>>,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Counted<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Counted<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.set(self.writes.get() + 1);
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test(flavor = "local")]
async fn a_head_and_the_data_that_is_there_go_out_in_one_write() {
    let (io, far) = tokio::io::duplex(64 * 1024);
    let writes = Rc::new(Cell::new(0));
    let near = Counted {
        io,
        writes: Rc::clone(&writes),
    };
    let (client, server) = tokio::join!(h2::client::handshake(near), h2::server::handshake(far));
    let ((mut sender, connection), mut server) = (client.unwrap(), server.unwrap());
    tokio::task::spawn_local(connection);
    // The first one waits for both sides' settings.
    for name in ["a", "b", "c"] {
        let before = writes.get();
        let request = Request::post("http://svc/").header("name", name);
        let (response, send) = sender
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        let (feed, body) = Feed::new();
        feed.push(data(b"all of it"));
        feed.end();
        sent(Outbound::new(body, send)).await.unwrap();
        let (received, mut respond) = in_time(server.accept()).await.unwrap().unwrap();
        let empty = Response::new(());
        respond.send_response(empty, true).unwrap();
        let serving = poll_fn(|cx| server.poll_closed(cx));
        let (collected, answered) = tokio::select! {
            both = async { tokio::join!(inbound(received).collect(), in_time(response)) } => both,
            _closed = serving => panic!("closed"),
        };
        assert_eq!(collected.unwrap().to_bytes(), "all of it");
        answered.unwrap();
        if name == "c" {
            assert_eq!(writes.get() - before, 1);
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_body_without_trailers_ends_too_and_tells_its_length() {
    let request = Request::post("http://svc/").header(CONTENT_LENGTH, 5);
    let Stream {
        send,
        received,
        response: _response,
        respond: _respond,
    } = stream(request.body(()).unwrap()).await;
    let mut body = inbound(received);
    assert_eq!(body.size_hint().exact(), Some(5));
    let (feed, fed) = Feed::new();
    feed.push(data(b"he"));
    feed.push(data(b"llo"));
    feed.end();
    let (sent, first) = tokio::join!(sent(Outbound::new(fed, send)), body.frame());
    sent.unwrap();
    assert_eq!(first.unwrap().unwrap().into_data().unwrap(), "he");
    assert_eq!(body.size_hint().exact(), Some(3));
    assert!(!body.is_end_stream());
    assert_eq!(in_time(body.collect()).await.unwrap().to_bytes(), "llo");
}

#[tokio::test(flavor = "local")]
async fn a_reset_is_the_end_of_a_body_only_behind_its_end() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
        for whole in [true, false] {
            let Stream {
                mut send, received, ..
            } = post().await;
            send.send_data(Bytes::from_static(b"hello"), whole).unwrap();
            let mut body = inbound(received);
            let first = in_time(body.frame()).await.unwrap().unwrap();
            assert_eq!(first.into_data().unwrap(), "hello");
            send.send_reset(reason);
            drop(send);
            let end = in_time(body.frame()).await;
            assert_eq!(end.is_none(), whole, "{reason:?}: {end:?}");
            assert!(body.is_end_stream());
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_body_that_breaks_off_resets_its_stream() {
    let Stream { send, received, .. } = post().await;
    let (feed, body) = Feed::new();
    feed.push(data(b"hello"));
    feed.break_off();
    let (sent, read) = tokio::join!(
        sent(Outbound::new(body, send)),
        in_time(inbound(received).collect())
    );
    assert!(sent.unwrap_err().starts_with("body: "));
    assert_eq!(read.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test(flavor = "local")]
async fn the_reason_of_a_stream_is_passed_on_unless_some_take_it_for_an_end() {
    for (reason, told) in [
        (Reason::ENHANCE_YOUR_CALM, Reason::ENHANCE_YOUR_CALM),
        (Reason::CANCEL, Reason::CANCEL),
        (Reason::NO_ERROR, Reason::INTERNAL_ERROR),
    ] {
        let mut from = post().await;
        let to = post().await;
        let body = RequestBody::Http2(inbound(from.received));
        from.send.send_reset(reason);
        let (sent, read) = tokio::join!(
            sent(Outbound::new(body, to.send)),
            in_time(inbound(to.received).collect())
        );
        assert!(sent.is_err());
        assert_eq!(read.unwrap_err().reason(), Some(told));
    }
}

#[tokio::test(flavor = "local")]
async fn trailers_that_belong_to_one_connection_are_left_out() {
    let (send, received, _open) = upload().await;
    let (feed, body) = Feed::new();
    let pairs = [
        ("keep-alive", "timeout=5"),
        ("connection", "close"),
        ("a", "b"),
    ];
    let pairs = pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    feed.push(Frame::trailers(HeaderMap::from_iter(pairs)));
    let (sent, read) = tokio::join!(
        sent(Outbound::new(body, send)),
        in_time(inbound(received).collect())
    );
    sent.unwrap();
    let expected = HeaderMap::from_iter([("a".parse().unwrap(), "b".parse().unwrap())]);
    assert_eq!(read.unwrap().trailers(), Some(&expected));
}

#[tokio::test(flavor = "local")]
async fn a_receiver_that_resets_is_noticed_while_nothing_is_sent() {
    let Stream {
        send, mut respond, ..
    } = post().await;
    let (_feed, body) = Feed::new();
    respond.send_reset(Reason::CANCEL);
    let sent = sent(Outbound::new(body, send)).await;
    assert!(sent.unwrap_err().starts_with("stream: "));
}

#[tokio::test(flavor = "local")]
async fn no_more_is_taken_of_a_body_than_its_receiver_has_room_for() {
    const HALF: usize = WINDOW as usize / 2;
    let (send, received, _open) = upload().await;
    let (feed, body) = Feed::new();
    let mut outbound = Outbound::new(body, send);
    // A body that always has more: what is taken is what was asked for.
    feed.push(data(&[b'x'; HALF]));
    let mut fed = HALF;
    for _ in 0..100 {
        assert!(
            poll_fn(|cx| Poll::Ready(outbound.poll(cx)))
                .await
                .is_pending()
        );
        if !feed.has_frames() {
            feed.push(data(&[b'x'; HALF]));
            fed += HALF;
        }
        tokio::task::yield_now().await;
    }
    // Two fill the window, one waits, and the last was not asked for.
    assert_eq!(fed, 4 * HALF);
    feed.end();
    let (sent, collected) = tokio::join!(sent(outbound), in_time(inbound(received).collect()));
    sent.unwrap();
    assert_eq!(collected.unwrap().to_bytes().len(), fed);
}

/// Both ends of a tunnel.
async fn tunnel() -> (Duplex, Duplex) {
    let Stream {
        response,
        send,
        received,
        mut respond,
    } = stream(Request::connect("svc:80").body(()).unwrap()).await;
    let back = respond.send_response(Response::new(()), false).unwrap();
    let response = in_time(response).await.unwrap();
    (
        Duplex::new(send, response.into_body()),
        Duplex::new(back, received.into_body()),
    )
}

#[tokio::test(flavor = "local")]
async fn a_tunnel_carries_both_ways_and_ends_each_by_itself() {
    let (mut near, mut far) = tunnel().await;
    let (up, down) = (vec![b'u'; 50_000], vec![b'd'; 70_000]);
    let near = async {
        near.write_all(&up).await.unwrap();
        near.shutdown().await.unwrap();
        let mut read = Vec::new();
        near.read_to_end(&mut read).await.unwrap();
        read
    };
    let far = async {
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        // The other way goes on behind the end of this one.
        far.write_all(&down).await.unwrap();
        far.shutdown().await.unwrap();
        read
    };
    let (read_near, read_far) = in_time(async { tokio::join!(near, far) }).await;
    assert_eq!((read_near, read_far), (down, up));
}

#[tokio::test(flavor = "local")]
async fn a_tunnel_whose_other_side_wants_no_more_keeps_what_that_has_said() {
    let Stream {
        response,
        send,
        received,
        mut respond,
    } = stream(Request::connect("svc:80").body(()).unwrap()).await;
    let mut back = respond.send_response(Response::new(()), false).unwrap();
    let response = in_time(response).await.unwrap();
    let mut near = Duplex::new(send, response.into_body());
    back.send_data(Bytes::from_static(b"all"), true).unwrap();
    // h2 resets with NO_ERROR what a server has no use for.
    drop((back, respond, received));
    let mut read = Vec::new();
    in_time(near.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, b"all");
    // What is written may meet the reset, and is no error then.
    for _ in 0..20 {
        near.write_all(b"more").await.unwrap();
        tokio::task::yield_now().await;
    }
    near.shutdown().await.unwrap();
}

#[tokio::test(flavor = "local")]
async fn a_tunnel_that_is_cut_is_an_error_on_the_other_side() {
    let (mut near, far) = tunnel().await;
    near.write_all(b"hello").await.unwrap();
    drop(far);
    let read = in_time(near.read(&mut [0; 8])).await;
    assert!(read.is_err(), "{read:?}");
    let written = in_time(near.write(b"more")).await;
    assert!(written.is_err(), "{written:?}");
    assert!(near.shutdown().await.is_err());
}
