//! Any bytes as a client's HTTP/1 request.
//!
//! The first byte is how many bytes come at a time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_agent::proxy::read_request;

fuzz_target!(|data: &[u8]| {
    let [piece, bytes @ ..] = data else {
        return;
    };
    let whole = read_request(bytes, usize::MAX);
    let pieces = read_request(bytes, usize::from(*piece));
    // What a request is does not depend on how it comes.
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => {
            assert_eq!(whole.method(), pieces.method());
            assert_eq!(whole.uri(), pieces.uri());
            assert_eq!(whole.headers(), pieces.headers());
            assert_eq!(whole.body(), pieces.body());
            let body = whole.body();
            // Every byte is part of the head, of the body or of what follows.
            assert!(body.body.data.len() + body.rest.len() <= bytes.len());
            assert!(bytes.ends_with(&body.rest));
        }
        (Err(_), Err(_)) => {}
        (whole, pieces) => panic!("{whole:?} and in pieces {pieces:?}"),
    }
});
