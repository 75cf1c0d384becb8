//! The application's end of a connection that may be accelerated: into `SOCKETS` before it can send
//! anything.

use aya_ebpf::bindings::{BPF_ANY, BPF_SK_STORAGE_GET_F_CREATE};
use aya_ebpf::helpers::generated::{bpf_sk_storage_get, bpf_sock_hash_update};
use aya_ebpf::programs::SockOpsContext;
use proxy_ebpf::{Channel, CreditId, End, EndKey, FlowKey, Stat};

use crate::maps::{CHANNELS, SOCKETS};
use crate::{port, stats};

/// Makes an established socket ready. From now on each of its messages is decided.
#[inline(always)]
pub(super) fn enter(ctx: &SockOpsContext, flow: FlowKey) {
    // What was sent with the SYN (TCP Fast Open) went by no message.
    if port::bytes_sent(ctx) != 0 {
        return stats::count(Stat::AccelerationFastOpen);
    }
    if keep(ctx, flow).is_none() {
        return stats::count(Stat::AccelerationRefused);
    }
    let mut key = EndKey::new(flow, End::Application);
    let map = core::ptr::from_ref(&SOCKETS).cast_mut().cast();
    let key = core::ptr::from_mut(&mut key).cast();
    // SAFETY: the loader has put the map's address here, the key is of its size, and the context is
    // the kernel's own.
    let entered = unsafe { bpf_sock_hash_update(ctx.ops, map, key, BPF_ANY.into()) };
    stats::count(if entered == 0 {
        Stat::AccelerationEntered
    } else {
        Stat::AccelerationRefused
    });
}

#[inline(always)]
fn keep(ctx: &SockOpsContext, flow: FlowKey) -> Option<()> {
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
    *kept = Channel::new(flow, End::Application, CreditId::default());
    Some(())
}
