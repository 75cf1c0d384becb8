//! What steered sockets keep, from connect(2) until they are closed.
//!
//! Each has a cell of an array, found by its cookie. Where another socket has that cell, it keeps the
//! same in storage of its own. Storage alone would do, and goes with its socket by itself; but the connect
//! hook allocates it, and what was freed on another processor comes dear: docs/performance.md.
//! A cell is given back when its socket is closed (`sockops.rs`), or released before a connection
//! came of it (`release.rs`).

use core::mem::offset_of;
use core::ptr::NonNull;

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::{SocketCell, SocketDst};

use crate::maps::{SOCKET_CELLS, SOCKET_DST};
use crate::{atomic, port};

/// Keeps it on the hook's socket; `None` if there is no memory for it.
#[inline(always)]
pub(crate) fn keep(ctx: &SockAddrContext, dst: SocketDst) -> Option<()> {
    let slot = match claim(port::cookie(ctx)) {
        Some(slot) => slot,
        None => stored(port::socket(ctx), BPF_SK_STORAGE_GET_F_CREATE.into())?,
    };
    // SAFETY: the cell, or the storage, is this socket's, and connect(2) holds the socket's lock.
    unsafe { slot.write(dst) };
    Some(())
}

/// What the socket of this cookie keeps; `sk` is only asked for if it has no cell.
#[inline(always)]
pub(crate) fn kept(cookie: u64, sk: impl FnOnce() -> *mut bpf_sock) -> Option<NonNull<SocketDst>> {
    let cell = cell(cookie)?;
    if owner(cell) == cookie {
        return Some(slot(cell));
    }
    stored(sk(), 0)
}

/// The hook's socket may have been steered before, and now goes elsewhere.
#[inline(always)]
pub(crate) fn forget(ctx: &SockAddrContext) {
    give_back(port::cookie(ctx));
    // SAFETY: the pointer is the hook's own socket.
    let _ = unsafe { SOCKET_DST.delete(port::socket(ctx)) };
}

/// Gives back the cell of a socket that is closed; storage goes with its socket.
#[inline(always)]
pub(crate) fn give_back(cookie: u64) {
    if let Some(cell) = cell(cookie)
        && owner(cell) == cookie
    {
        // SAFETY: an aligned integer of a live element, which none but its owner changes.
        unsafe { cell.cast::<u64>().write_volatile(0) };
    }
}

/// As [`give_back`], of a socket that has told of no connection and never will of one's end.
#[inline(always)]
pub(crate) fn give_back_unbegun(cookie: u64) {
    if let Some(cell) = cell(cookie)
        && owner(cell) == cookie
    {
        // SAFETY: the cell is this socket's, and nothing else of it runs while it is released.
        let begun = unsafe { slot(cell).as_ref() }.has_begun();
        if !begun {
            give_back(cookie);
        }
    }
}

/// Takes the socket's cell, unless another socket has it.
#[inline(always)]
fn claim(cookie: u64) -> Option<NonNull<SocketDst>> {
    let cell = cell(cookie)?;
    let seen = owner(cell);
    let taken = seen == cookie || (seen == 0 && atomic::replace(cell.cast(), 0, cookie) == 0);
    taken.then(|| slot(cell))
}

#[inline(always)]
fn cell(cookie: u64) -> Option<NonNull<SocketCell>> {
    const { assert!(offset_of!(SocketCell, owner) == 0) };
    NonNull::new(SOCKET_CELLS.get_ptr_mut(SocketCell::index(cookie))?)
}

/// Cookie of the socket that has the cell; 0 if none does.
#[inline(always)]
fn owner(cell: NonNull<SocketCell>) -> u64 {
    // SAFETY: an aligned integer of a live element; others may change it, which read as a whole is
    // as good before as after.
    unsafe { cell.cast::<u64>().read_volatile() }
}

#[inline(always)]
fn slot(cell: NonNull<SocketCell>) -> NonNull<SocketDst> {
    // SAFETY: a field of a live element.
    unsafe { cell.byte_add(offset_of!(SocketCell, kept)) }.cast()
}

/// The storage of a socket that has no cell.
#[inline(always)]
fn stored(sk: *mut bpf_sock, flags: u64) -> Option<NonNull<SocketDst>> {
    if sk.is_null() {
        return None;
    }
    let map = core::ptr::from_ref(&SOCKET_DST).cast_mut().cast();
    // SAFETY: the loader has put the map's address here, and the verifier tracks `sk` as a socket.
    let stored = unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags) };
    NonNull::new(stored.cast())
}
