//! cgroup/sock_release: a socket that will not tell of its end, since no connection came of connect(2) or
//! its states are not followed, gives back what it has.
//!
//! Minimum kernel version: 5.9. It changes nothing on any socket.

use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;

use crate::{kept, port};

/// The kernel does not ask.
const ALLOW: i32 = 1;

/// Runs for every socket that is released, steered or not, but the kernel's own.
#[cgroup_sock(sock_release)]
pub(crate) fn sock_release(ctx: SockContext) -> i32 {
    if port::is_tcp(&ctx) {
        kept::give_back_unbegun(port::socket_cookie(&ctx));
    }
    ALLOW
}
