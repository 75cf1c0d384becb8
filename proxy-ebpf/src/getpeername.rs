//! cgroup/getpeername4 and 6: a redirected socket's peer is the one that it asked for.
//!
//! Minimum kernel version: 5.8. They change nothing on sockets that were not redirected.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::OrigDst;

use crate::{kept, port};

/// The only verdict that the kernel takes from this hook.
const ALLOW: i32 = 1;

/// Answers for AF_INET sockets.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(asked) = asked_for(&ctx) {
        port::set_user_ip4(&ctx, asked.addr());
        port::set_user_port_be(&ctx, asked.port_be());
    }
    ALLOW
}

/// Answers for AF_INET6 sockets; a v4-mapped address is answered v4-mapped.
#[cgroup_sock_addr(getpeername6)]
pub(crate) fn getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(asked) = asked_for(&ctx) {
        port::set_user_ip6(&ctx, asked.addr());
        port::set_user_port_be(&ctx, asked.port_be());
    }
    ALLOW
}

#[inline(always)]
fn asked_for(ctx: &SockAddrContext) -> Option<OrigDst> {
    let kept = kept::kept(port::socket_cookie(ctx), || port::socket(ctx))?;
    // SAFETY: what a socket keeps stays while this call holds it.
    Some(unsafe { kept.as_ref() }.asked())
}
