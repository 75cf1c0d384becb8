//! Any bytes as an upstream's HTTP/1 response.
//!
//! The first byte is the method, the second how many bytes come at a time.
#![no_main]

use http::{Method, Request};
use libfuzzer_sys::fuzz_target;
use proxy_agent::proxy::read_response;

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
    let whole = read_response(&request, bytes, usize::MAX);
    let pieces = read_response(&request, bytes, usize::from(*piece));
    // What a response is does not depend on how it comes.
    match (whole, pieces) {
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
});
