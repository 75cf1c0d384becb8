//! Reads and writes of context fields, and the only byte-order code of the programs.
//!
//! The kernel rewrites each context access at load time and refuses accesses that the compiler
//! merged or moved to another base; volatile reads and writes keep each one as it stands.
//! `user_port` and `remote_port` are big-endian (the latter in the upper half), `local_port` is
//! in host order (include/uapi/linux/bpf.h).

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::programs::{SkMsgContext, SockAddrContext, SockContext, SockOpsContext};
use proxy_ebpf::v4_mapped;

/// `AF_INET`, include/linux/socket.h.
const AF_INET: u32 = 2;
/// `IPPROTO_TCP`, include/uapi/linux/in.h.
pub(crate) const IPPROTO_TCP: u32 = 6;

macro_rules! read {
    ($place:expr) => {
        // SAFETY: the kernel passes the hook a context that is valid until it returns, and the
        // field is readable for this program type: the verifier checks both at load.
        unsafe { addr_of!($place).read_volatile() }
    };
}

macro_rules! write {
    ($place:expr, $value:expr) => {
        // SAFETY: as for reads; the verifier also checks that the field is writable.
        unsafe { addr_of_mut!($place).write_volatile($value) }
    };
}

/// The socket of a sock_addr hook.
#[inline(always)]
pub(crate) fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    read!((*ctx.sock_addr).__bindgen_anon_1.sk)
}

/// What the kernel calls the socket of a hook, for as long as that is.
#[inline(always)]
pub(crate) fn socket_cookie(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: the context is the kernel's own and valid until the hook returns.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// Whether a socket is a TCP one.
#[inline(always)]
pub(crate) fn is_tcp(ctx: &SockContext) -> bool {
    read!((*ctx.sock).protocol) == IPPROTO_TCP
}

/// `type` and `protocol` of the socket.
#[inline(always)]
pub(crate) fn kind(ctx: &SockAddrContext) -> (u32, u32) {
    (
        read!((*ctx.sock_addr).type_),
        read!((*ctx.sock_addr).protocol),
    )
}

/// Index of the device that the socket is bound to; 0 = none.
#[inline(always)]
pub(crate) fn bound_device(ctx: &SockAddrContext) -> u32 {
    let sk = socket(ctx);
    read!((*sk).bound_dev_if)
}

/// The port in the caller's address, network order.
#[inline(always)]
pub(crate) fn user_port_be(ctx: &SockAddrContext) -> [u8; 2] {
    let [high, low, ..] = read!((*ctx.sock_addr).user_port).to_ne_bytes();
    [high, low]
}

/// Writes the port, given in network order.
#[inline(always)]
pub(crate) fn set_user_port_be(ctx: &SockAddrContext, [high, low]: [u8; 2]) {
    let port = u32::from_ne_bytes([high, low, 0, 0]);
    write!((*ctx.sock_addr).user_port, port);
}

/// The caller's IPv4 address, v4-mapped.
#[inline(always)]
pub(crate) fn user_ip4(ctx: &SockAddrContext) -> [u8; 16] {
    v4_mapped(read!((*ctx.sock_addr).user_ip4).to_ne_bytes())
}

/// Writes the IPv4 address from its v4-mapped form.
#[inline(always)]
pub(crate) fn set_user_ip4(ctx: &SockAddrContext, addr: [u8; 16]) {
    let [.., a, b, c, d] = addr;
    write!((*ctx.sock_addr).user_ip4, u32::from_ne_bytes([a, b, c, d]));
}

/// The caller's IPv6 address.
#[inline(always)]
pub(crate) fn user_ip6(ctx: &SockAddrContext) -> [u8; 16] {
    join([
        read!((*ctx.sock_addr).user_ip6[0]),
        read!((*ctx.sock_addr).user_ip6[1]),
        read!((*ctx.sock_addr).user_ip6[2]),
        read!((*ctx.sock_addr).user_ip6[3]),
    ])
}

/// Writes the IPv6 address.
#[inline(always)]
pub(crate) fn set_user_ip6(ctx: &SockAddrContext, addr: [u8; 16]) {
    let [first, second, third, fourth] = split(addr);
    write!((*ctx.sock_addr).user_ip6[0], first);
    write!((*ctx.sock_addr).user_ip6[1], second);
    write!((*ctx.sock_addr).user_ip6[2], third);
    write!((*ctx.sock_addr).user_ip6[3], fourth);
}

/// The socket of a sockops call; null where there is no full socket.
#[inline(always)]
pub(crate) fn ops_socket(ctx: &SockOpsContext) -> *mut bpf_sock {
    read!((*ctx.ops).__bindgen_anon_2.sk)
}

/// Old and new state of a state callback.
#[inline(always)]
pub(crate) fn ops_states(ctx: &SockOpsContext) -> (u32, u32) {
    (
        read!((*ctx.ops).__bindgen_anon_1.args[0]),
        read!((*ctx.ops).__bindgen_anon_1.args[1]),
    )
}

/// Local address of the socket, IPv4 v4-mapped.
///
/// Every field is read whatever the family: were the reads on two branches, the compiler would
/// merge them into one on a moved base.
#[inline(always)]
pub(crate) fn local_addr(ctx: &SockOpsContext) -> [u8; 16] {
    let family = read!((*ctx.ops).family);
    let v4 = read!((*ctx.ops).local_ip4);
    let v6 = join([
        read!((*ctx.ops).local_ip6[0]),
        read!((*ctx.ops).local_ip6[1]),
        read!((*ctx.ops).local_ip6[2]),
        read!((*ctx.ops).local_ip6[3]),
    ]);
    if family == AF_INET {
        v4_mapped(v4.to_ne_bytes())
    } else {
        v6
    }
}

/// Remote address of the socket, IPv4 v4-mapped; read as the local one is.
#[inline(always)]
pub(crate) fn remote_addr(ctx: &SockOpsContext) -> [u8; 16] {
    let family = read!((*ctx.ops).family);
    let v4 = read!((*ctx.ops).remote_ip4);
    let v6 = join([
        read!((*ctx.ops).remote_ip6[0]),
        read!((*ctx.ops).remote_ip6[1]),
        read!((*ctx.ops).remote_ip6[2]),
        read!((*ctx.ops).remote_ip6[3]),
    ]);
    if family == AF_INET {
        v4_mapped(v4.to_ne_bytes())
    } else {
        v6
    }
}

/// Sequence numbers of the next byte to be sent and to be received.
#[inline(always)]
pub(crate) fn next_bytes(ctx: &SockOpsContext) -> (u32, u32) {
    (read!((*ctx.ops).snd_nxt), read!((*ctx.ops).rcv_nxt))
}

/// Local port, host order.
#[inline(always)]
pub(crate) fn local_port(ctx: &SockOpsContext) -> u16 {
    low_half(read!((*ctx.ops).local_port))
}

/// Remote port, host order.
#[inline(always)]
pub(crate) fn remote_port(ctx: &SockOpsContext) -> u16 {
    low_half(u32::from_be(read!((*ctx.ops).remote_port)))
}

/// Segments that have come in.
#[inline(always)]
pub(crate) fn segments_in(ctx: &SockOpsContext) -> u32 {
    read!((*ctx.ops).segs_in)
}

/// Bytes of the application that were sent before the connection was established, or at it: the SYN
/// itself counts as one (`tcp_snd_una_update` in net/ipv4/tcp_input.c).
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "sequence numbers are the lower 32 bits of a count"
)]
pub(crate) fn bytes_sent(ctx: &SockOpsContext) -> u32 {
    let acknowledged = read!((*ctx.ops).bytes_acked) as u32;
    let first = read!((*ctx.ops).snd_una).wrapping_sub(acknowledged);
    read!((*ctx.ops).snd_nxt)
        .wrapping_sub(first)
        .wrapping_sub(1)
}

/// The socket that sends a message. Minimum kernel version: 5.8.
#[inline(always)]
pub(crate) fn msg_socket(ctx: &SkMsgContext) -> *mut bpf_sock {
    read!((*ctx.msg).__bindgen_anon_3.sk)
}

/// Bytes of a message.
#[inline(always)]
pub(crate) fn msg_size(ctx: &SkMsgContext) -> u32 {
    read!((*ctx.msg).size)
}

/// Splits an address into words of network order, as `bpf_sock_addr` and `bpf_sock_tuple` have it.
#[inline(always)]
pub(crate) const fn split(addr: [u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

#[inline(always)]
const fn join([first, second, third, fourth]: [u32; 4]) -> [u8; 16] {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    let [i, j, k, l] = third.to_ne_bytes();
    let [m, n, o, p] = fourth.to_ne_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

#[inline(always)]
const fn low_half(word: u32) -> u16 {
    let [.., high, low] = word.to_be_bytes();
    u16::from_be_bytes([high, low])
}
