//! The Kubernetes source on a real API server with a real etcd. Needs their binaries: each test is
//! `#[ignore]`d and run by `cargo xtask e2e`.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its fixture too"
)]

#[cfg(test)]
mod api_server;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod follow;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod wire;
