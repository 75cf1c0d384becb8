//! Any bytes as the beginning of a connection: HTTP, a ClientHello, or neither.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_agent::proxy::{Detected, Hello, client_hello, detect};

fuzz_target!(|data: &[u8]| {
    let (http, hello) = (detect(data), client_hello(data));
    assert!(http != Detected::Undecided || data.len() < 24, "{data:?}");
    if let Hello::Whole(Some(name)) = &hello {
        assert!((1..=253).contains(&name.len()), "{name}");
        assert!(
            !name.bytes().any(|byte| byte.is_ascii_uppercase()),
            "{name}"
        );
        assert!(!matches!(http, Detected::Http1 | Detected::Http2), "{name}");
    }
    // What is decided by fewer bytes stays so, however many more come.
    for end in [data.len() / 2, data.len().saturating_sub(1)] {
        let (part, more) = (detect(&data[..end]), client_hello(&data[..end]));
        assert!(part == Detected::Undecided || part == http, "{data:?}");
        assert!(more == Hello::Partial || more == hello, "{data:?}");
    }
});
