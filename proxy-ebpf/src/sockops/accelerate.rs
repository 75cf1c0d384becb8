//! The application's end of a connection that may be accelerated: into `SOCKETS` before it can send
//! anything.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, BPF_SK_STORAGE_GET_F_CREATE};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_ktime_get_ns, bpf_sk_storage_get, bpf_sock_hash_update,
};
use aya_ebpf::programs::SockOpsContext;
use proxy_ebpf::{Channel, CreditId, End, EndKey, FlowKey, Pair, PodAddress, Stat};

use crate::maps::{ADDRESSES, CHANNELS, PAIRS, SOCKETS};
use crate::{element, port, stats};

/// Makes an established socket ready. From now on each of its messages is decided.
#[inline(always)]
pub(super) fn enter(ctx: &SockOpsContext, flow: FlowKey) {
    // What was sent with the SYN (TCP Fast Open) went by no message.
    if port::bytes_sent(ctx) != 0 {
        return stats::count(Stat::AccelerationFastOpen);
    }
    let channel = Channel::new(flow, End::Application, CreditId::default());
    // A sender that waited for the connection goes on by TCP and is no message either, but is counted from here.
    begin(ctx, channel, Stat::AccelerationEntered);
}

/// The same for a socket that a pod which asks has accepted, if it is at the pod's own address and comes
/// from a pod of this node: the agent's connections do. Under the cookie of its own network namespace
/// it can be nobody's but the one that the agent names.
#[inline(always)]
pub(super) fn accepted(ctx: &SockOpsContext) {
    let cookie = netns_cookie(ctx);
    let Some(pod) = owner(port::local_addr(ctx)).filter(|pod| pod.accelerates()) else {
        return;
    };
    let remote = port::remote_addr(ctx);
    if pod.netns_cookie() != cookie || owner(remote).is_none() {
        return;
    }
    let source_port = port::remote_port(ctx);
    let flow = FlowKey::to_pod(cookie, remote, source_port, port::local_port(ctx));
    // The other pod's end is established first.
    if pod.accelerates_direct()
        && let Some(pair) = pair(flow)
    {
        let channel = Channel::new(flow, End::Server, CreditId::default()).of_pair(pair.since_ns);
        if begin(ctx, channel, Stat::AccelerationPaired) {
            pair.server_here = channel.pair_since_ns;
        }
        return;
    }
    let channel = Channel::new(flow, End::Application, CreditId::default());
    begin(ctx, channel, Stat::AccelerationAccepted);
}

/// The same for a socket of a pod that asks for acceleration without the agent, and that has connected to
/// an endpoint: if the endpoint is a pod of this node that asks for it too, and the pod's address its own.
#[inline(always)]
pub(super) fn paired(ctx: &SockOpsContext) {
    let local = port::local_addr(ctx);
    let own = owner(local).is_some_and(|pod| pod.netns_cookie() == netns_cookie(ctx));
    let Some(server) = owner(port::remote_addr(ctx)).filter(|pod| pod.accelerates_direct()) else {
        return;
    };
    if !own {
        return;
    }
    if port::bytes_sent(ctx) != 0 {
        return stats::count(Stat::AccelerationFastOpen);
    }
    let source_port = port::local_port(ctx);
    let flow = FlowKey::to_pod(
        server.netns_cookie(),
        local,
        source_port,
        port::remote_port(ctx),
    );
    // SAFETY: the helper takes no argument.
    let since_ns = unsafe { bpf_ktime_get_ns() };
    let channel = Channel::new(flow, End::Client, CreditId::default()).of_pair(since_ns);
    // The socket first: where there is a pair, its client is the one in the map.
    if begin(ctx, channel, Stat::AccelerationPaired) {
        let pair = Pair {
            since_ns,
            ..Pair::default()
        };
        if PAIRS.insert(flow, pair, BPF_ANY.into()).is_err() {
            stats::count(Stat::AccelerationRefused);
        }
    }
}

/// Forgets a connection between two pods when its client's socket is closed.
#[inline(always)]
pub(super) fn part(ctx: &SockOpsContext) {
    if let Some(channel) = kept(ctx, 0) {
        let flow = channel.flow();
        // The next connection with the same ports may have it already.
        if pair(flow).is_some_and(|pair| pair.since_ns == channel.pair_since_ns) {
            let _ = PAIRS.remove(flow);
        }
    }
}

/// Makes a socket ready of which the connection has sent and read nothing yet; returns whether it is.
#[inline(always)]
fn begin(ctx: &SockOpsContext, channel: Channel, stat: Stat) -> bool {
    let (write_seq, copied_seq) = port::next_bytes(ctx);
    let key = channel.key();
    let entered = put(ctx, channel.begun(write_seq, copied_seq), key).is_some();
    stats::count(if entered {
        stat
    } else {
        Stat::AccelerationRefused
    });
    entered
}

#[inline(always)]
fn pair<'p>(flow: FlowKey) -> Option<&'p mut Pair> {
    let pair = PAIRS.get_ptr_mut(flow)?;
    // SAFETY: aligned integers, which say whose they are should they become another connection's while
    // this runs.
    unsafe { pair.as_mut() }
}

/// Whose an address is, if it is a captured pod's of this node.
#[inline(always)]
fn owner(address: [u8; 16]) -> Option<PodAddress> {
    element::copy(&ADDRESSES, &address)
}

#[inline(always)]
fn netns_cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the context is the kernel's own and valid until the hook returns.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

#[inline(always)]
fn put(ctx: &SockOpsContext, channel: Channel, mut key: EndKey) -> Option<()> {
    keep(ctx, channel)?;
    let map = core::ptr::from_ref(&SOCKETS).cast_mut().cast();
    let key = core::ptr::from_mut(&mut key).cast();
    // SAFETY: the loader has put the map's address here, the key is of its size, and the context is
    // the kernel's own.
    let entered = unsafe { bpf_sock_hash_update(ctx.ops, map, key, BPF_ANY.into()) };
    (entered == 0).then_some(())
}

#[inline(always)]
fn keep(ctx: &SockOpsContext, channel: Channel) -> Option<()> {
    *kept(ctx, BPF_SK_STORAGE_GET_F_CREATE.into())? = channel;
    Some(())
}

#[inline(always)]
fn kept<'s>(ctx: &SockOpsContext, flags: u64) -> Option<&'s mut Channel> {
    let sk = port::ops_socket(ctx);
    if sk.is_null() {
        return None;
    }
    let map = core::ptr::from_ref(&CHANNELS).cast_mut().cast();
    // SAFETY: the loader has put the map's address here, and the verifier tracks `sk` as a socket.
    let kept = unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags) };
    // SAFETY: non-null storage is a `Channel` and lives as long as its socket, whose lock is held.
    unsafe { kept.cast::<Channel>().as_mut() }
}
