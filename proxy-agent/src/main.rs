//! The `proxy-agent` binary.

fn main() {}
