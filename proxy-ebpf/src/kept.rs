//! What steered sockets keep, from connect(2) until they are closed.
//!
//! Each has a cell of an array, found by its cookie. Where another socket has that cell, and where the socket is
//! the kernel's own, it keeps the same in storage of its own. Storage alone would do, and goes with its socket by itself; but the connect
//! hook allocates it, and what was freed on another processor comes dear: docs/performance.md.
//! A cell is given back when its socket is closed (`sockops.rs`), or released if it would not tell of that
//! (`release.rs`).

use core::mem::offset_of;
use core::ptr::NonNull;

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::programs::SockAddrContext;
use proxy_ebpf::{SocketCell, SocketDst, Stat};

use crate::maps::{SK_KERN_SOCK_BIT, SOCKET_CELLS, SOCKET_DST};
use crate::tcp::TcpSock;
use crate::{atomic, port, stats};

/// Keeps it on the hook's socket; `None` if there is no memory for it.
#[inline(always)]
pub(crate) fn keep(ctx: &SockAddrContext, dst: SocketDst) -> Option<()> {
    let sk = port::socket(ctx);
    let slot = match claim(port::socket_cookie(ctx), sk) {
        Some(slot) => slot,
        None => {
            stats::count(Stat::KeptInStorage);
            stored(sk, BPF_SK_STORAGE_GET_F_CREATE.into())?
        }
    };
    // SAFETY: the cell, or the storage, is this socket's, and connect(2) holds the socket's lock.
    unsafe { slot.write(dst) };
    Some(())
}

/// What a socket keeps; `sk` is only asked for if it has no cell.
#[inline(always)]
pub(crate) fn kept(cookie: u64, sk: impl FnOnce() -> *mut bpf_sock) -> Option<NonNull<SocketDst>> {
    own(cookie).map_or_else(|| stored(sk(), 0), |cell| Some(slot(cell)))
}

/// The hook's socket may have been steered before, and now goes elsewhere.
#[inline(always)]
pub(crate) fn forget(ctx: &SockAddrContext) {
    give_back(port::socket_cookie(ctx));
    // SAFETY: the pointer is the hook's own socket.
    let _ = unsafe { SOCKET_DST.delete(port::socket(ctx)) };
}

/// Gives back the cell of a socket that is closed; storage goes with its socket.
#[inline(always)]
pub(crate) fn give_back(cookie: u64) {
    if let Some(cell) = cell(cookie) {
        // Everything that was written to it comes before this.
        atomic::replace(cell.cast(), cookie, 0);
    }
}

/// As [`give_back`], of a socket that has told of no connection and never will of one's end.
#[inline(always)]
pub(crate) fn give_back_unbegun(cookie: u64) {
    // SAFETY: the cell is this socket's, and nothing else of it runs while it is released.
    if own(cookie).is_some_and(|cell| !unsafe { slot(cell).as_ref() }.has_begun()) {
        give_back(cookie);
    }
}

/// Takes the socket's cell, unless another socket has it or nobody would give it back.
#[inline(always)]
fn claim(cookie: u64, sk: *mut bpf_sock) -> Option<NonNull<SocketDst>> {
    if is_kernels(sk) {
        return None;
    }
    let cell = cell(cookie)?;
    let former = atomic::replace(cell.cast(), 0, cookie);
    (former == 0 || former == cookie).then(|| slot(cell))
}

/// The cell, if the socket has it.
#[inline(always)]
fn own(cookie: u64) -> Option<NonNull<SocketCell>> {
    // SAFETY: an aligned integer of a live element; others may change it, which read as a whole is
    // as good before as after.
    cell(cookie).filter(|cell| unsafe { cell.cast::<u64>().read_volatile() } == cookie)
}

#[inline(always)]
fn cell(cookie: u64) -> Option<NonNull<SocketCell>> {
    const { assert!(offset_of!(SocketCell, owner) == 0) };
    NonNull::new(SOCKET_CELLS.get_ptr_mut(SocketCell::index(cookie))?)
}

#[inline(always)]
fn slot(cell: NonNull<SocketCell>) -> NonNull<SocketDst> {
    // SAFETY: a field of a live element.
    unsafe { cell.byte_add(offset_of!(SocketCell, kept)) }.cast()
}

/// Whether a socket is the kernel's own, as the subflows of MPTCP are: no hook runs when it is released
/// (`inet_release`, net/ipv4/af_inet.c). So is every one where its kernel does not say.
#[inline(always)]
fn is_kernels(sk: *mut bpf_sock) -> bool {
    let bit = SK_KERN_SOCK_BIT.load();
    let bits: Option<u8> = TcpSock::of(sk).and_then(|sk| sk.member(bit / 8));
    bits.is_none_or(|bits| bits >> (bit % 8) & 1 == 1)
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
