//! The programs on this very kernel: real sockets in a real netns and cgroup.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its fixture too"
)]

mod acceleration;
mod acceleration_between_pods;
mod acceleration_bounds;
mod acceleration_killed;
mod acceleration_sent;
mod acceleration_to_pods;
mod attachment;
mod direct;
mod direct_shares;
mod fixture;
mod flows;
mod frontends;
mod inherit;
mod kept;
mod log;
mod pass;
mod steer;

use std::net::SocketAddr;

fn addr(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}
