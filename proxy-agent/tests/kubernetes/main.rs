//! The Kubernetes source and the reports on a real API server with a real etcd. Needs their binaries: each test is
//! `#[ignore]`d and run by `cargo xtask e2e --cluster`.

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
mod report;
#[cfg(test)]
mod wire;
