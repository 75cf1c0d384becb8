//! Members of TCP sockets that are no part of any context, by where the agent says this kernel has them.
//!
//! Minimum kernel version: 5.9.

use core::ptr::NonNull;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;

/// A `struct tcp_sock`, which begins with its `struct sock`.
#[derive(Clone, Copy)]
pub(crate) struct TcpSock(NonNull<u8>);

/// What a member may be: plain numbers, as the kernel may change one at any time.
pub(crate) trait Member: Copy {}

impl Member for u8 {}
impl Member for u32 {}
impl Member for i32 {}

impl TcpSock {
    /// Of a socket of the hook's; `None` if it is null or none of TCP's.
    #[inline(always)]
    pub(crate) fn of(sk: *mut bpf_sock) -> Option<Self> {
        if sk.is_null() {
            return None;
        }
        // SAFETY: the verifier tracks `sk` as a socket.
        NonNull::new(unsafe { bpf_skc_to_tcp_sock(sk.cast()) }.cast()).map(Self)
    }

    /// The member at `offset`, which the agent has found in the kernel's own types; `None` where it is not known (0).
    #[inline(always)]
    pub(crate) fn member<T: Member>(self, offset: u32) -> Option<T> {
        if offset == 0 {
            return None;
        }
        // SAFETY: the verifier refuses what is no member of the kernel's own type, and what goes beyond one.
        let member = unsafe { self.0.add(offset as usize).cast::<T>() };
        // SAFETY: as above; members are aligned, and plain numbers of any value are valid.
        Some(unsafe { member.read_volatile() })
    }
}
