//! sockops: what becomes of a steered connection once its source port is known.
//!
//! Minimum kernel version: 5.15 (netns cookie). Sockets that connect and were not steered, among
//! them all of the agent's, keep nothing and are left alone; so is what is accepted at no address of
//! a pod that asks for acceleration.

mod accelerate;
mod direct;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, BPF_TCP_ESTABLISHED,
    BPF_TCP_SYN_SENT,
};
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use proxy_ebpf::{FlowKey, OrigDst, SocketDst, Stat};

use crate::maps::ORIG_DST;
use crate::{kept, port, stats};

/// What a sockops program returns when it has nothing to reply.
const DONE: u32 = 1;

/// Publishes the original destination once the source port is known and no SYN has left, and counts
/// direct connections from there to their end.
#[sock_ops]
pub(crate) fn sock_ops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connects(&ctx),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(&ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accelerate::accepted(&ctx),
        BPF_SOCK_OPS_STATE_CB => state_changed(&ctx),
        _ => {}
    }
    DONE
}

#[inline(always)]
fn connects(ctx: &SockOpsContext) {
    let Some(socket) = steered(ctx) else {
        return;
    };
    // Only a socket that will tell of its end may be left to that.
    let tells = watch_states(ctx).is_ok();
    if tells {
        socket.begin();
    }
    match socket.endpoint() {
        Some(endpoint) if tells => direct::begins(socket, &endpoint),
        // What would never be counted down is not counted up.
        Some(_) => stats::count(Stat::DirectUncounted),
        None => publish(ctx, socket.asked()),
    }
}

#[inline(always)]
fn established(ctx: &SockOpsContext) {
    let Some(socket) = steered(ctx) else {
        return;
    };
    match socket.endpoint() {
        Some(_) if socket.asked().accelerates_direct() => accelerate::paired(ctx),
        None if socket.asked().accelerates() => accelerate::enter(ctx, flow(ctx)),
        _ => {}
    }
}

#[inline(always)]
fn state_changed(ctx: &SockOpsContext) {
    let states @ (_, present) = port::ops_states(ctx);
    // Nothing below is done at the states in between.
    if present != BPF_TCP_ESTABLISHED && present != BPF_TCP_CLOSE {
        return;
    }
    let Some(socket) = steered(ctx) else {
        return;
    };
    match socket.endpoint() {
        Some(endpoint) => {
            if present == BPF_TCP_CLOSE && socket.asked().accelerates_direct() {
                accelerate::part(ctx);
            }
            direct::state_changed(ctx, states, socket, &endpoint);
        }
        None if states == (BPF_TCP_SYN_SENT, BPF_TCP_CLOSE) => take_back(ctx),
        None => {}
    }
    if present == BPF_TCP_CLOSE {
        kept::give_back(port::socket_cookie(ctx));
    }
}

#[inline(always)]
fn publish(ctx: &SockOpsContext, asked: OrigDst) {
    if ORIG_DST.insert(flow(ctx), asked, 0).is_err() {
        stats::count(Stat::FlowBindFailed);
        return;
    }
    stats::count(Stat::FlowBound);
}

/// Removes the entry of a connection that was never established. Of others it stays: a client may
/// connect, send and close before the agent has accepted.
#[inline(always)]
fn take_back(ctx: &SockOpsContext) {
    if ORIG_DST.remove(flow(ctx)).is_ok() {
        stats::count(Stat::FlowAborted);
    }
}

/// Has the socket tell of its states from now on.
#[inline(always)]
fn watch_states(ctx: &SockOpsContext) -> Result<(), i32> {
    ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32 | ctx.cb_flags() as i32)
}

#[inline(always)]
fn flow(ctx: &SockOpsContext) -> FlowKey {
    // SAFETY: the context is the kernel's own and valid until the hook returns.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    FlowKey::new(
        cookie,
        port::local_addr(ctx),
        port::local_port(ctx),
        port::remote_port(ctx),
    )
}

/// What the connect hook has kept on the socket.
#[inline(always)]
fn steered<'s>(ctx: &SockOpsContext) -> Option<&'s mut SocketDst> {
    let kept = kept::kept(port::socket_cookie(ctx), || port::ops_socket(ctx))?;
    // SAFETY: it is this socket's, whose lock is held by whoever changes its state.
    Some(unsafe { &mut *kept.as_ptr() })
}
