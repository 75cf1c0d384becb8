//! The application's end of a connection that may be accelerated: into `SOCKETS` before it can send
//! anything.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_ANY, BPF_SK_STORAGE_GET_F_CREATE};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_sk_storage_get, bpf_sock_hash_update,
};
use aya_ebpf::programs::SockOpsContext;
use proxy_ebpf::{Channel, CreditId, End, EndKey, FlowKey, Stat};

use crate::maps::{ADDRESSES, CHANNELS, SOCKETS};
use crate::{port, stats};

/// Makes an established socket ready. From now on each of its messages is decided.
#[inline(always)]
pub(super) fn enter(ctx: &SockOpsContext, flow: FlowKey) {
    // What was sent with the SYN (TCP Fast Open) went by no message.
    if port::bytes_sent(ctx) != 0 {
        return stats::count(Stat::AccelerationFastOpen);
    }
    let channel = Channel::new(flow, End::Application, CreditId::default());
    let entered = put(ctx, channel, EndKey::new(flow, End::Application));
    stats::count(entered.map_or(Stat::AccelerationRefused, |()| Stat::AccelerationEntered));
}

/// The same for a socket that a pod which asks has accepted, if it is at the pod's own address and comes
/// from a pod of this node: the agent's connections do. Under the cookie of its own network namespace
/// it can be nobody's but the one that the agent names.
#[inline(always)]
pub(super) fn accepted(ctx: &SockOpsContext) {
    // SAFETY: the context is the kernel's own and valid until the hook returns.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    let local = port::local_addr(ctx);
    // SAFETY: the map is BPF_F_NO_PREALLOC, so the element is not reused while this runs.
    let asks = unsafe { ADDRESSES.get(local) }
        .is_some_and(|pod| pod.accelerates() && pod.netns_cookie() == cookie);
    if !asks {
        return;
    }
    let remote = port::remote_addr(ctx);
    // SAFETY: as above.
    if unsafe { ADDRESSES.get(remote) }.is_none() {
        return;
    }
    let flow = FlowKey::to_pod(
        cookie,
        remote,
        port::remote_port(ctx),
        port::local_port(ctx),
    );
    let (write_seq, copied_seq) = port::next_bytes(ctx);
    let channel = Channel::new(flow, End::Application, CreditId::default());
    let channel = channel.begun(write_seq, copied_seq);
    let entered = put(ctx, channel, EndKey::new(flow, End::Application));
    stats::count(entered.map_or(Stat::AccelerationRefused, |()| Stat::AccelerationAccepted));
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
    let sk = port::ops_socket(ctx);
    if sk.is_null() {
        return None;
    }
    let map = core::ptr::from_ref(&CHANNELS).cast_mut().cast();
    let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: the loader has put the map's address here, and the verifier tracks `sk` as a socket.
    let kept = unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), create) };
    // SAFETY: non-null storage is a `Channel` and lives as long as its socket, whose lock is held.
    let kept = unsafe { kept.cast::<Channel>().as_mut() }?;
    *kept = channel;
    Some(())
}
