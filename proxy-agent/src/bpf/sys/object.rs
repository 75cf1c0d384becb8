//! Maps, programs and links as the kernel's objects: what one is, and putting one in the place of
//! another. No policy.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use aya::Pod;

use super::{Attr, address_mut, bpf};

// enum bpf_cmd, include/uapi/linux/bpf.h
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_PROG_ATTACH: libc::c_long = 8;

/// `union bpf_attr` of BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct GetInfo {
    bpf_fd: RawFd,
    info_len: u32,
    info: u64,
}

/// `union bpf_attr` of BPF_LINK_UPDATE.
#[repr(C)]
struct LinkUpdate {
    link_fd: RawFd,
    new_prog_fd: RawFd,
    flags: u32,
    old_prog_fd: u32,
}

/// `union bpf_attr` of BPF_PROG_ATTACH.
#[repr(C)]
struct ProgAttach {
    target_fd: RawFd,
    attach_bpf_fd: RawFd,
    attach_type: u32,
    attach_flags: u32,
}

impl Attr for ProgAttach {}
impl Attr for GetInfo {}
impl Attr for LinkUpdate {}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::bpf) struct MapInfo {
    /// `enum bpf_map_type`.
    pub(in crate::bpf) kind: u32,
    /// Unique as long as the map lives.
    pub(in crate::bpf) id: u32,
    pub(in crate::bpf) key_bytes: u32,
    pub(in crate::bpf) value_bytes: u32,
}

/// The beginning of `struct bpf_link_info`, of a link to a cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::bpf) struct LinkInfo {
    /// `enum bpf_link_type`.
    pub(in crate::bpf) kind: u32,
    _id: u32,
    _prog_id: u32,
    _padding: u32,
    pub(in crate::bpf) cgroup_id: u64,
    pub(in crate::bpf) attach_type: u32,
    _padding_end: u32,
}

/// The beginning of one of the kernel's `struct bpf_*_info`: plain integers, any of them valid.
pub(in crate::bpf) trait Info: Pod + Default {}
impl Info for MapInfo {}
impl Info for LinkInfo {}

// SAFETY: `repr(C)` over `u32`s: no padding, and every bit pattern is a valid value.
unsafe impl Pod for MapInfo {}
// SAFETY: `repr(C)`, 16 bytes of `u32`, a `u64`, 8 bytes of `u32`: no padding, and every bit
// pattern is a valid value.
unsafe impl Pod for LinkInfo {}

/// What the kernel says of an object. The kernel writes as much of it as `T` has room for.
///
/// The caller vouches that `object` is of the kind that `T` describes; its own `kind` tells.
pub(in crate::bpf) fn info<T: Info>(object: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    let mut attr = GetInfo {
        bpf_fd: object.as_raw_fd(),
        info_len: u32::try_from(size_of::<T>()).map_err(io::Error::other)?,
        info: address_mut(&mut info),
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// Has a link run another program from now on; no connect sees neither of them. The kernel does not
/// compare attach types. Minimum kernel version: 5.7.
pub(in crate::bpf) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdate {
        link_fd: link.as_raw_fd(),
        new_prog_fd: program.as_raw_fd(),
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Has the sockets of a map run a program with each message, until the map is gone.
pub(in crate::bpf) fn attach_to_map(
    program: BorrowedFd<'_>,
    map: BorrowedFd<'_>,
) -> io::Result<()> {
    /// `enum bpf_attach_type`
    const BPF_SK_MSG_VERDICT: u32 = 7;
    let mut attr = ProgAttach {
        target_fd: map.as_raw_fd(),
        attach_bpf_fd: program.as_raw_fd(),
        attach_type: BPF_SK_MSG_VERDICT,
        attach_flags: 0,
    };
    bpf(BPF_PROG_ATTACH, &mut attr).map(drop)
}

/// Makes the number of `place` stand for the open file of `with`; what it stood for is closed.
///
/// The caller vouches that whoever owns `place` is content with the new file: it stays its owner.
pub(in crate::bpf) fn replace(place: BorrowedFd<'_>, with: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: dup3 takes integers and touches no memory of ours. Both descriptors are open and
    // stay so: the owner of `place` goes on owning the number, which never is free in between.
    let number = unsafe { libc::dup3(with.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
