//! Direct connections: how many each endpoint has, and how they came about.
//!
//! A connection counts from before its SYN to the close of its socket, however that comes: by
//! either end, by a reset, a time-out, or the end of the pod. The socket remembers which element
//! counts it, so that none is ever counted down that was not counted up.

use core::ptr::NonNull;

use aya_ebpf::bindings::{
    BPF_NOEXIST, BPF_TCP_CLOSE, BPF_TCP_ESTABLISHED, BPF_TCP_SYN_RECV, BPF_TCP_SYN_SENT,
};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::programs::SockOpsContext;
use proxy_ebpf::{EndpointKey, EndpointState, SocketDst, Stat};

use crate::maps::{ENDPOINTS, SK_ERR_OFFSET};
use crate::tcp::TcpSock;
use crate::{atomic, port, stats};

/// include/uapi/asm-generic/errno.h
const ECONNABORTED: i32 = 103;
const ECONNREFUSED: i32 = 111;

/// How a connection that was not established ended.
enum Failure {
    /// The endpoint's host said no.
    Refused,
    /// Nobody answered, or there is no way there.
    Unreachable,
    /// The application, or an administrator, did not wait for it.
    Aborted,
}

/// Counts a connection whose SYN is about to be sent.
#[inline(always)]
pub(super) fn begins(socket: &mut SocketDst, endpoint: &EndpointKey) {
    let Some(state) = state_of(endpoint) else {
        return stats::count(Stat::DirectUncounted);
    };
    let since_ns = state.since_ns;
    add(&mut state.open, 1);
    // Between look-up and here it may have become another endpoint's: that one is not counted up.
    if existing(endpoint).is_some_and(|state| state.since_ns == since_ns) {
        socket.set_counted_by_ns(since_ns);
    } else {
        add(&mut state.open, u64::MAX);
        stats::count(Stat::DirectUncounted);
    }
}

/// Follows a connection to its establishment, and to its end.
#[inline(always)]
pub(super) fn state_changed(
    ctx: &SockOpsContext,
    (former, present): (u32, u32),
    socket: &mut SocketDst,
    endpoint: &EndpointKey,
) {
    let connecting = former == BPF_TCP_SYN_SENT || former == BPF_TCP_SYN_RECV;
    let closed = present == BPF_TCP_CLOSE;
    let established = connecting && present == BPF_TCP_ESTABLISHED;
    if !closed && !established {
        return;
    }
    let counted_by_ns = socket.counted_by_ns();
    if closed {
        socket.set_counted_by_ns(0);
    }
    let state = existing(endpoint).filter(|state| state.since_ns == counted_by_ns);
    if established {
        stats::count(Stat::DirectEstablished);
        // SAFETY: the helper takes no argument.
        let now_ns = unsafe { bpf_ktime_get_ns() };
        if let Some(state) = state {
            add(&mut state.connected, 1);
            let took_ns = now_ns.saturating_sub(socket.asked().since_ns());
            add(&mut state.connect_ns, took_ns);
            state.streak = 0;
        }
        return;
    }
    let failure = connecting.then(|| failure(ctx));
    stats::count(match &failure {
        Some(Failure::Aborted) => Stat::DirectAborted,
        Some(Failure::Refused | Failure::Unreachable) => Stat::DirectFailed,
        None => return leave(state),
    });
    if let Some(state) = state {
        add(&mut state.open, u64::MAX);
        match failure {
            Some(Failure::Refused) => add(&mut state.refused, 1),
            Some(Failure::Unreachable) => add(&mut state.unreachable, 1),
            Some(Failure::Aborted) | None => return,
        }
        add(&mut state.streak, 1);
    }
}

#[inline(always)]
fn leave(state: Option<&mut EndpointState>) {
    if let Some(state) = state {
        add(&mut state.open, u64::MAX);
    }
}

/// The element of an endpoint, made if there is none.
#[inline(always)]
fn state_of<'s>(endpoint: &EndpointKey) -> Option<&'s mut EndpointState> {
    if let Some(state) = existing(endpoint) {
        return Some(state);
    }
    // SAFETY: the helper takes no argument.
    let since_ns = unsafe { bpf_ktime_get_ns() };
    let fresh = EndpointState {
        since_ns,
        ..EndpointState::default()
    };
    // Another CPU may be first, which is as good.
    let _ = ENDPOINTS.insert(endpoint, fresh, BPF_NOEXIST.into());
    existing(endpoint)
}

#[inline(always)]
fn existing<'s>(endpoint: &EndpointKey) -> Option<&'s mut EndpointState> {
    let state = ENDPOINTS.get_ptr_mut(endpoint)?;
    // SAFETY: its fields are aligned integers, added to atomically; `since_ns` never changes. It is
    // removed when it has no connection and no set has had the endpoint for a second; who adds
    // a connection to it nevertheless makes sure that it is still there.
    unsafe { state.as_mut() }
}

/// Adds to a field that every CPU adds to; `u64::MAX` takes one away.
#[inline(always)]
fn add(field: &mut u64, amount: u64) {
    atomic::add(NonNull::from(field), amount);
}

/// Why a connection was closed before it was established, by the socket's error: the kernel sets
/// it before the state, and whoever closes the socket sets none.
#[inline(always)]
fn failure(ctx: &SockOpsContext) -> Failure {
    // `sk_err`; the agent tells where this kernel has it.
    let error: Option<i32> =
        TcpSock::of(port::ops_socket(ctx)).and_then(|sk| sk.member(SK_ERR_OFFSET.load()));
    match error {
        Some(ECONNREFUSED) => Failure::Refused,
        Some(0 | ECONNABORTED) => Failure::Aborted,
        Some(_) => Failure::Unreachable,
        // Where the error cannot be read: what answers a SYN in vain is a reset.
        None if port::segments_in(ctx) > 0 => Failure::Refused,
        None => Failure::Aborted,
    }
}
