//! The elements of an array map as memory of this process.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use proxy_ebpf::Credit;

/// One [`Credit`] as both sides write it.
#[repr(C)]
#[derive(Debug)]
pub(in crate::bpf) struct SharedCredit {
    pub(in crate::bpf) generation: AtomicU64,
    pub(in crate::bpf) read: AtomicU64,
    pub(in crate::bpf) permit: AtomicU64,
    pub(in crate::bpf) redirected: AtomicU64,
    _reserved: [AtomicU64; 4],
    pub(in crate::bpf) application_read: AtomicU64,
    pub(in crate::bpf) application_sent: AtomicU64,
    _reserved_end: [AtomicU64; 6],
}

const _: () = {
    assert!(size_of::<SharedCredit>() == size_of::<Credit>());
    assert!(offset_of!(SharedCredit, read) == offset_of!(Credit, read));
    assert!(offset_of!(SharedCredit, permit) == offset_of!(Credit, permit));
    assert!(offset_of!(SharedCredit, redirected) == offset_of!(Credit, redirected));
    assert!(offset_of!(SharedCredit, application_read) == offset_of!(Credit, application_read));
    assert!(offset_of!(SharedCredit, application_sent) == offset_of!(Credit, application_sent));
};

/// All credits, mapped as long as the value lives.
#[derive(Debug)]
pub(in crate::bpf) struct Credits {
    start: NonNull<SharedCredit>,
    count: usize,
}

// SAFETY: the memory belongs to no thread, and is only reached through atomics.
unsafe impl Send for Credits {}
// SAFETY: as above.
unsafe impl Sync for Credits {}

impl Credits {
    /// Maps an array map of `count` credits. Minimum kernel version: 5.5 (`BPF_F_MMAPABLE`).
    ///
    /// The caller vouches that the map has as many elements of this size.
    pub(in crate::bpf) fn map(array: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let bytes = count * size_of::<SharedCredit>();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses where; nothing of ours is mapped over.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                access,
                libc::MAP_SHARED,
                array.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, count })
    }

    /// The credit of an index.
    pub(in crate::bpf) fn get(&self, index: u32) -> Option<&SharedCredit> {
        let index = index as usize;
        if index >= self.count {
            return None;
        }
        // SAFETY: within the mapping, which lasts as long as `self` and begins at a page.
        let credit = unsafe { self.start.add(index) };
        // SAFETY: as above; atomics may have any bits, and others write them too.
        Some(unsafe { credit.as_ref() })
    }
}

impl Drop for Credits {
    fn drop(&mut self) {
        let bytes = self.count * size_of::<SharedCredit>();
        // SAFETY: what `map` has mapped, once, and nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), bytes) };
    }
}
