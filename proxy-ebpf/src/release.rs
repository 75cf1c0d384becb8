//! cgroup/sock_release: a socket that connect(2) failed for, before there was anything whose end it
//! could tell, gives back what it has.
//!
//! Minimum kernel version: 5.9. It changes nothing on any socket.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;

use crate::{kept, port};

/// The kernel does not ask.
const ALLOW: i32 = 1;

/// Runs for every socket that is released, steered or not.
#[cgroup_sock(sock_release)]
pub(crate) fn sock_release(ctx: SockContext) -> i32 {
    if port::is_tcp(&ctx) {
        // SAFETY: the context is the kernel's own and valid until the hook returns.
        kept::give_back_unbegun(unsafe { bpf_get_socket_cookie(ctx.as_ptr()) });
    }
    ALLOW
}
