//! sk_msg: each message of a socket in `SOCKETS` goes to the other end's socket, or by TCP.
//!
//! Minimum kernel version: 5.15. Fails open: whatever is in doubt goes by TCP, and is counted. The
//! rules and their reasons: `abi/channel.rs`, `abi/pair.rs`. What the kernel then fails to redirect, for want of
//! memory, counts as redirected though nobody will read it, and the sender gets an error: a connection with the agent
//! stays with TCP from there on.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::{BPF_F_INGRESS, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_msg_redirect_hash, bpf_sk_storage_get};
use aya_ebpf::macros::sk_msg;
use aya_ebpf::programs::SkMsgContext;
use proxy_ebpf::{Channel, Credit, End, EndKey, Pair, Stat, WINDOW_BYTES};

use crate::maps::{CHANNELS, COPIED_SEQ_OFFSET, CREDITS, JOINED, PAIRS, SOCKETS, WRITE_SEQ_OFFSET};
use crate::tcp::TcpSock;
use crate::{element, port, stats};

/// `SK_PASS` (include/uapi/linux/bpf.h): by TCP, or to where it was redirected.
const PASS: u32 = 1;

/// Decides about one message.
#[sk_msg]
pub(crate) fn accelerate(ctx: SkMsgContext) -> u32 {
    if let Err(why) = decide(&ctx) {
        stats::count(why);
    }
    PASS
}

#[inline(always)]
fn decide(ctx: &SkMsgContext) -> Result<(), Stat> {
    let sk = port::msg_socket(ctx);
    if sk.is_null() {
        return Err(Stat::ByTcpNotJoined);
    }
    let channel = kept(sk).ok_or(Stat::ByTcpNotJoined)?;
    let size = u64::from(port::msg_size(ctx));
    const AGENT: u32 = End::Agent as u32;
    const APPLICATION: u32 = End::Application as u32;
    match channel.end {
        AGENT => from_agent(ctx, channel, size),
        APPLICATION => from_application(ctx, sk, channel, size),
        _ => between_pods(ctx, sk, channel, size),
    }
}

/// The agent has decided for the whole of what it is about to send.
#[inline(always)]
fn from_agent(ctx: &SkMsgContext, channel: &Channel, size: u64) -> Result<(), Stat> {
    let credit = credit(channel).ok_or(Stat::ByTcpNotJoined)?;
    let permit = read(addr_of!(credit.permit));
    if size > permit {
        return Err(Stat::ByTcpWindow);
    }
    redirect(ctx, channel.far_end(), size)?;
    write(addr_of_mut!(credit.permit), permit - size);
    let redirected = read(addr_of!(credit.redirected)) + size;
    write(addr_of_mut!(credit.redirected), redirected);
    Ok(())
}

/// Nobody has decided: this does, by what the agent has read.
#[inline(always)]
fn from_application(
    ctx: &SkMsgContext,
    sk: *mut bpf_sock,
    channel: &mut Channel,
    size: u64,
) -> Result<(), Stat> {
    follow(sk, channel).ok_or(Stat::ByTcpNotJoined)?;
    if channel.credit.generation == 0 {
        let joined = element::copy(&JOINED, &channel.flow());
        channel.credit = joined.ok_or(Stat::ByTcpNotJoined)?;
    }
    let credit = credit(channel).ok_or(Stat::ByTcpNotJoined)?;
    // The kernel does not ask for each message by TCP: where one breaks off, what comes next goes likewise.
    write(addr_of_mut!(credit.application_sent), 0);
    let sent = channel.redirected + channel.by_tcp;
    let stamp = |count| Credit::stamp(channel.credit.generation, count);
    write(
        addr_of_mut!(credit.application_read),
        stamp(channel.read_by_tcp),
    );
    let verified = read(addr_of!(credit.read));
    if channel.last_by_tcp > verified {
        return Err(Stat::ByTcpUnread);
    }
    if sent + size > verified + WINDOW_BYTES {
        return Err(Stat::ByTcpWindow);
    }
    redirect(ctx, channel.far_end(), size)?;
    channel.redirected += size;
    // It is queued when this has ended, and the kernel will ask for the next one.
    write(addr_of_mut!(credit.application_sent), stamp(sent + size));
    Ok(())
}

/// There is no agent that reads or knows: this decides by what the other pod had read when it last sent.
#[inline(always)]
fn between_pods(
    ctx: &SkMsgContext,
    sk: *mut bpf_sock,
    channel: &mut Channel,
    size: u64,
) -> Result<(), Stat> {
    follow(sk, channel).ok_or(Stat::ByTcpNotJoined)?;
    let pair = PAIRS.get_ptr_mut(channel.flow());
    let pair = pair.ok_or(Stat::ByTcpNotJoined)?;
    // SAFETY: aligned integers, each written by one end and read by the other through volatile
    // accesses. They may become another connection's while this runs: each says whose it is.
    let pair = unsafe { &mut *pair };
    let since_ns = channel.pair_since_ns;
    let (own, other) = if channel.end == End::Client as u32 {
        if read(addr_of!(pair.server_here)) != since_ns {
            return Err(Stat::ByTcpGone);
        }
        (&raw mut pair.client_read, &raw const pair.server_read)
    } else {
        (&raw mut pair.server_read, &raw const pair.client_read)
    };
    // This connection is over, and its ports are another one's by now.
    if read(addr_of!(pair.since_ns)) != since_ns {
        return Err(Stat::ByTcpGone);
    }
    write(own, Pair::stamp(since_ns, channel.read_by_tcp));
    if channel.by_tcp > Pair::count(since_ns, read(other)) {
        return Err(Stat::ByTcpUnread);
    }
    redirect(ctx, channel.far_end(), size)?;
    channel.redirected += size;
    Ok(())
}

/// Brings up to date what went by TCP, in both directions, by TCP's own numbers.
#[inline(always)]
fn follow(sk: *mut bpf_sock, channel: &mut Channel) -> Option<()> {
    let sk = TcpSock::of(sk)?;
    let write_seq: u32 = sk.member(WRITE_SEQ_OFFSET.load())?;
    let copied_seq: u32 = sk.member(COPIED_SEQ_OFFSET.load())?;
    if channel.started == 0 {
        channel.started = 1;
        channel.write_seq = write_seq;
        channel.copied_seq = copied_seq;
    }
    let written = u64::from(write_seq.wrapping_sub(channel.write_seq));
    if written > 0 {
        channel.by_tcp += written;
        channel.last_by_tcp = channel.redirected + channel.by_tcp;
    }
    channel.read_by_tcp += u64::from(copied_seq.wrapping_sub(channel.copied_seq));
    channel.write_seq = write_seq;
    channel.copied_seq = copied_seq;
    Some(())
}

#[inline(always)]
fn redirect(ctx: &SkMsgContext, mut to: EndKey, size: u64) -> Result<(), Stat> {
    let map = core::ptr::from_ref(&SOCKETS).cast_mut().cast();
    let to = core::ptr::from_mut(&mut to).cast();
    // SAFETY: the loader has put the map's address here, the key is of its size, and the context is
    // the kernel's own.
    let verdict = unsafe { bpf_msg_redirect_hash(ctx.msg, map, to, BPF_F_INGRESS.into()) };
    if verdict != i64::from(PASS) {
        return Err(Stat::ByTcpGone);
    }
    stats::count(Stat::Redirected);
    stats::add(Stat::RedirectedBytes, size);
    Ok(())
}

/// The connection's credit, if it is still this connection's.
#[inline(always)]
fn credit<'c>(channel: &Channel) -> Option<&'c mut Credit> {
    let credit = CREDITS.get_ptr_mut(channel.credit.index)?;
    // SAFETY: an element of an array lives as long as the map; it is written through volatile
    // accesses of aligned integers only.
    let credit = unsafe { &mut *credit };
    (read(addr_of!(credit.generation)) == channel.credit.generation.into()).then_some(credit)
}

#[inline(always)]
fn kept<'s>(sk: *mut bpf_sock) -> Option<&'s mut Channel> {
    let map = core::ptr::from_ref(&CHANNELS).cast_mut().cast();
    // SAFETY: the loader has put the map's address here, and the verifier tracks `sk` as a socket.
    let kept = unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), 0) };
    // SAFETY: non-null storage is a `Channel` and lives as long as its socket, whose lock the
    // sender holds.
    unsafe { kept.cast::<Channel>().as_mut() }
}

#[inline(always)]
fn read<T: Copy>(place: *const T) -> T {
    // SAFETY: callers pass aligned integers in memory that the verifier checks.
    unsafe { place.read_volatile() }
}

#[inline(always)]
fn write(place: *mut u64, value: u64) {
    // SAFETY: as for reads.
    unsafe { place.write_volatile(value) };
}
