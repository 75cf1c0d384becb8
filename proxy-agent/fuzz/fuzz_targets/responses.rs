//! Any bytes as an upstream's HTTP/1 response.
//!
//! The first byte is the method, the second how many bytes come at a time.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use libfuzzer_sys::fuzz_target;
use proxy_agent::proxy::{ResponseFields, read_response};

fuzz_target!(|data: &[u8]| {
    let [method, piece, bytes @ ..] = data else {
        return;
    };
    let mut request = Request::new(());
    *request.method_mut() = match method % 4 {
        0 => Method::GET,
        1 => Method::HEAD,
        2 => Method::POST,
        _ => Method::CONNECT,
    };
    let whole = read_response(&request, bytes, usize::MAX, ResponseFields::Read);
    let pieces = read_response(&request, bytes, usize::from(*piece), ResponseFields::Read);
    // What a response is does not depend on how it comes.
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => {
            assert_eq!(whole.status(), pieces.status());
            assert_eq!(whole.headers(), pieces.headers());
            assert_eq!(whole.body(), pieces.body());
            assert!(whole.body().body.data.len() <= bytes.len());
            assert!(request.method() != Method::HEAD || whole.body().body.data.is_empty());
        }
        (Err(_), Err(_)) => {}
        (whole, pieces) => panic!("{whole:?} and in pieces {pieces:?}"),
    }
    let unread = read_response(&request, bytes, usize::from(*piece), ResponseFields::Unread);
    // Nor on whether anybody reads its fields.
    match (&whole, &unread) {
        (Ok(read), Ok(unread)) => {
            assert_eq!(read.status(), unread.status());
            assert_eq!(read.body().body, unread.body().body);
            assert_eq!(read.body().keeps_alive, unread.body().keeps_alive);
            match unread.body().lines.is_empty() {
                true => assert!(unread.headers().is_empty() || read.headers() == unread.headers()),
                false => are_of(read.headers(), &unread.body().lines),
            }
        }
        (Err(_), Err(_)) => {}
        (read, unread) => panic!("{read:?} and unread {unread:?}"),
    }
});

/// That each of `lines` is a field of the head.
fn are_of(fields: &HeaderMap, lines: &[u8]) {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let of_head = field(line).is_some_and(|(name, value)| {
            let mut values = fields.get_all(name).iter();
            values.any(|one| *one == value)
        });
        assert!(of_head, "{}", String::from_utf8_lossy(line));
    }
}

/// The field that a line in the form that all of them go on in tells.
fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let line = line.strip_suffix(b"\r\n")?;
    let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
    let name = HeaderName::from_bytes(name).ok()?;
    let value = HeaderValue::from_bytes(value.strip_prefix(b": ")?).ok()?;
    Some((name, value))
}
