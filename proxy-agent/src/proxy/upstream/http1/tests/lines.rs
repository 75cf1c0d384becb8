//! Fields that nobody reads go on as they would if somebody did.

use std::ops::AddAssign;

use bytes::BytesMut;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, Method};
use hyper::ext::ReasonPhrase;

use super::*;
use crate::proxy::headers;
use crate::proxy::http1::damaged;
use crate::proxy::upstream::ResponseFields::Unread;

/// What goes on of a head, and what is made of it here.
#[derive(Debug, PartialEq)]
struct Told {
    status: StatusCode,
    reason: Option<ReasonPhrase>,
    version: http::Version,
    fields: HeaderMap,
    framing: Framing,
    keeps_alive: bool,
    rest: BytesMut,
}

/// How many heads went on as lines, and by a map.
#[derive(Debug, Default, PartialEq)]
struct Ways {
    lines: u32,
    map: u32,
}

impl AddAssign for Ways {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.map += other.map;
    }
}

fn told(
    method: &Method,
    bytes: &[u8],
    fields: ResponseFields,
    ways: &mut Ways,
) -> Result<Option<Told>, String> {
    let request = Request::builder().method(method).body(()).unwrap();
    let mut rest = BytesMut::from(bytes);
    let asked = Asked::by(&request, fields);
    let head = Heads::default().take(&mut rest, asked);
    let Some(head) = head.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let (parts, _) = head.response.into_parts();
    let mut fields = parts.headers;
    if head.lines == FieldLines::default() {
        ways.map += 1;
        headers::strip_hop_by_hop(&mut fields);
        if headers::may_have_content(method == Method::HEAD, parts.status) {
            // It is told anew.
            fields.remove(CONTENT_LENGTH);
        }
    } else {
        ways.lines += 1;
        assert!(fields.is_empty(), "{fields:?}");
        fields = parsed(head.lines.as_bytes());
    }
    Ok(Some(Told {
        status: parts.status,
        reason: parts.extensions.get().cloned(),
        version: parts.version,
        fields,
        framing: head.framing,
        keeps_alive: head.keeps_alive,
        rest,
    }))
}

/// The fields of these lines, each of which is in the form that a map gives it.
fn parsed(lines: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap();
        let colon = line.iter().position(|byte| *byte == b':').unwrap();
        let name = HeaderName::from_bytes(&line[..colon]).unwrap();
        assert_eq!(name.as_str().as_bytes(), &line[..colon]);
        let value = line[colon..].strip_prefix(b": ").unwrap();
        assert_eq!(value, value.trim_ascii());
        fields.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    fields
}

/// That these bytes mean the same, whether somebody reads the fields or not.
fn same(method: &Method, bytes: &[u8]) -> Ways {
    let mut ways = Ways::default();
    let read = told(method, bytes, Read, &mut Ways::default());
    let unread = told(method, bytes, Unread, &mut ways);
    assert_eq!(read, unread, "{}", String::from_utf8_lossy(bytes));
    ways
}

const HEADS: &[(&str, Ways)] = &[
    (
        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX-A:  1 \r\nContent-Length: 5\r\nx-a: 2\r\n\r\nhello",
        LINES,
    ),
    (
        "HTTP/1.1 404 Not Found\nServer: x\nX-A:\nX-B: \nContent-Length:0\n\n",
        LINES,
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n",
        LINES,
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nConnection: Close\r\nContent-Length: 9\r\n\r\n",
        LINES,
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        LINES,
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        LINES,
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nUpgrade: h2\r\nProxy-Connection: x\r\n\r\n",
        LINES,
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nConnection: Upgrade\r\nUpgrade: h2\r\n\r\n",
        MAP,
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nConnection: date, close\r\n\r\n",
        MAP,
    ),
    ("HTTP/1.1 200 OK\r\nDate: x\r\nTE: trailers\r\n\r\n", MAP),
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
        MAP,
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        MAP,
    ),
    (
        "HTTP/1.1 200 Fine with me\r\nDate: x\r\nContent-Length: 5\r\n\r\n",
        LINES,
    ),
    (
        "HTTP/1.1 200 \r\nDate: x\r\nContent-Length: 5\r\n\r\n",
        LINES,
    ),
    (
        "HTTP/1.1 204 No Content\r\nDate: x\r\nContent-Length: 5\r\n\r\n",
        MAP,
    ),
    ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", MAP),
    (
        "HTTP/1.0 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\n",
        MAP,
    ),
];

const LINES: Ways = Ways { lines: 1, map: 0 };
const MAP: Ways = Ways { lines: 0, map: 1 };

#[test]
fn what_a_usual_head_says_goes_on_as_lines_and_any_other_by_a_map() {
    for (head, ways) in HEADS {
        assert_eq!(same(&Method::GET, head.as_bytes()), *ways, "{head}");
        assert_eq!(same(&Method::HEAD, head.as_bytes()), MAP, "{head}");
    }
    assert_eq!(same(&Method::CONNECT, HEADS[0].0.as_bytes()), MAP, "opened");
    assert_eq!(same(&Method::CONNECT, HEADS[1].0.as_bytes()), LINES);
}

#[test]
fn a_damaged_head_goes_on_the_same_either_way() {
    let mut ways = Ways::default();
    for (head, _) in HEADS {
        for bytes in damaged(head) {
            ways += same(&Method::GET, &bytes);
        }
    }
    assert!(ways.lines > 1_000 && ways.map > 1_000, "{ways:?}");
}

#[test]
fn a_byte_of_a_name_or_value_is_taken_or_refused_the_same_either_way() {
    for byte in 0..=u8::MAX {
        for (before, behind) in [("X", ": 1"), ("X: 1", "1")] {
            let head = [
                b"HTTP/1.1 200 OK\r\nA: b\r\n",
                before.as_bytes(),
                &[byte],
                behind.as_bytes(),
                b"\r\n\r\n",
            ];
            same(&Method::GET, &head.concat());
        }
    }
}

/// What a connection answers when the upstream says `bytes`.
async fn answered(
    connection: Box<Connection>,
    upstream: &mut TcpStream,
    bytes: &[u8],
) -> Box<Response<Received>> {
    let answer = async {
        read_to(upstream, "\r\n\r\n").await;
        upstream.write_all(bytes).await.unwrap();
    };
    let sent = connection.send(Box::new(request("GET")), Unread);
    let (sent, ()) = tokio::join!(sent, answer);
    sent.ok().expect("an answer")
}

#[tokio::test]
async fn lines_come_with_their_body_once_and_not_with_the_next_response() {
    let (connection, mut upstream) = connected().await;
    let one = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n";
    let mut response = answered(connection, &mut upstream, one).await;
    assert!(response.headers().is_empty());
    assert_eq!(response.body_mut().take_lines().as_bytes(), b"x-a: 1\r\n");
    assert_eq!(response.body_mut().take_lines(), FieldLines::default());
    let connection = download(Ok(response)).into_idle().expect("kept");
    // Nobody takes the lines of this one.
    let response = answered(connection, &mut upstream, one).await;
    let connection = download(Ok(response)).into_idle().expect("kept");
    assert_eq!(connection.lines, FieldLines::default(), "idle");
    let other = b"HTTP/1.1 204 No Content\r\nX-B: 1\r\n\r\n";
    let mut response = answered(connection, &mut upstream, other).await;
    assert_eq!(response.headers()["x-b"], "1");
    assert_eq!(response.body_mut().take_lines(), FieldLines::default());
}

#[tokio::test(flavor = "local")]
async fn lines_come_with_a_response_whose_request_is_still_on_its_way() {
    let (connection, mut upstream) = connected().await;
    let (_feed, request) = streamed(None);
    let answer = async {
        read_to(&mut upstream, "chunked\r\n\r\n").await;
        let bytes = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 5\r\n\r\n";
        upstream.write_all(bytes).await.unwrap();
    };
    let (sent, ()) = tokio::join!(connection.send(Box::new(request), Unread), answer);
    let mut response = sent.ok().expect("an answer");
    assert_eq!(response.body_mut().take_lines().as_bytes(), b"x-a: 1\r\n");
}
