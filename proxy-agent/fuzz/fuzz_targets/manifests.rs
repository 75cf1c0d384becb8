//! Any text as manifests: read, compiled, asked. Nothing may panic, or take long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_agent::objects::Format;
use proxy_fuzz::{compile, request, serve};

/// A request that many conditions hold for.
const REQUEST: &[u8] = b"GET /a/b?q=1\nhost: web\nx: 1\ncookie: a=b\norigin: https://a.example";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let format = if text.trim_start().starts_with('{') {
        Format::Json
    } else {
        Format::Yaml
    };
    let snapshot = compile(text, format);
    for problem in snapshot.problems.iter() {
        assert!(!problem.reason.is_empty(), "{problem:?}");
    }
    let request = request(REQUEST).into_iter();
    for request in request {
        for listener in snapshot.listeners.iter() {
            serve(&snapshot, listener, &request);
        }
    }
});
