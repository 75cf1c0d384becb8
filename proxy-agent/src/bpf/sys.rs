//! The system calls that aya does not offer: bpf(2) on maps, links and cgroups by plain file
//! descriptors, and what must be read from sockets and clocks beside it. With one call in
//! `net/memory.rs` the only unsafe code of the agent; no policy.

mod memory;
mod object;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use aya::Pod;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(super) use self::memory::{Credits, SharedCredit};
pub(super) use self::object::{LinkInfo, MapInfo, attach_to_map, info, link_update, replace};

// enum bpf_cmd, include/uapi/linux/bpf.h
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ENABLE_STATS: libc::c_long = 32;

/// `BPF_STATS_RUN_TIME`
const RUN_TIME: u32 = 0;

/// Answer with what runs for the cgroup, inherited programs included.
const BPF_F_QUERY_EFFECTIVE: u32 = 1;

/// `union bpf_attr` of the map element commands.
#[repr(C)]
struct MapElem {
    map_fd: RawFd,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` of the batch commands.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: RawFd,
    elem_flags: u64,
    flags: u64,
}

/// `union bpf_attr` of BPF_PROG_QUERY.
#[repr(C)]
struct Query {
    target_fd: RawFd,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    reserved: u32,
}

/// `union bpf_attr` of BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    prog_fd: RawFd,
    target_fd: RawFd,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr` of BPF_ENABLE_STATS.
#[repr(C)]
struct EnableStats {
    kind: u32,
}

/// A part of `union bpf_attr`: `repr(C)`, without padding, its pointers valid while it is used.
trait Attr {}
impl Attr for MapElem {}
impl Attr for Batch {}
impl Attr for Query {}
impl Attr for LinkCreate {}
impl Attr for EnableStats {}

fn bpf<A: Attr>(command: libc::c_long, attr: &mut A) -> io::Result<libc::c_long> {
    let size = size_of::<A>();
    // SAFETY: `attr` is a live, initialised part of `union bpf_attr` without padding, and the size
    // says how much of it there is; the kernel takes the rest as zero. The pointers in it were
    // made by the callers below from live buffers of the size that the map has.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ret)
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

fn address_mut<T>(value: &mut T) -> u64 {
    std::ptr::from_mut(value) as u64
}

/// Writes one element, whether or not it exists.
///
/// The caller vouches that the map has keys and values of the sizes of `K` and `V`.
pub(super) fn map_update<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> io::Result<()> {
    let mut attr = MapElem {
        map_fd: map.as_raw_fd(),
        reserved: 0,
        key: address(key),
        value: address(value),
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Writes many elements, whether or not they exist; those before an error are written. Minimum
/// kernel version: 5.6.
///
/// The caller vouches that the map has keys and values of the sizes of `K` and `V`.
pub(super) fn map_update_all<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    elements: &[(K, V)],
) -> io::Result<()> {
    /// The kernel copies an element at a time; this bounds what is copied here.
    const N: usize = 4_096;
    for some in elements.chunks(N) {
        let (keys, values): (Vec<K>, Vec<V>) = some.iter().copied().unzip();
        let mut attr = Batch {
            in_batch: 0,
            out_batch: 0,
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: u32::try_from(some.len()).map_err(io::Error::other)?,
            map_fd: map.as_raw_fd(),
            elem_flags: 0,
            flags: 0,
        };
        bpf(BPF_MAP_UPDATE_BATCH, &mut attr)?;
    }
    Ok(())
}

/// Removes one element; `false` if there was none.
///
/// The caller vouches that the map has keys of the size of `K`.
pub(super) fn map_delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut attr = MapElem {
        map_fd: map.as_raw_fd(),
        reserved: 0,
        key: address(key),
        value: 0,
        flags: 0,
    };
    found(bpf(BPF_MAP_DELETE_ELEM, &mut attr)).map(|found| found.is_some())
}

/// Reads one element.
///
/// The caller vouches that the map has keys and values of the sizes of `K` and `V`.
pub(super) fn map_lookup<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    read(BPF_MAP_LOOKUP_ELEM, map, key)
}

/// Reads and removes one element of a hash map in one call. Minimum kernel version: 5.14.
///
/// The caller vouches that the map has keys and values of the sizes of `K` and `V`.
pub(super) fn map_take<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    read(BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, key)
}

fn read<K: Pod, V: Pod>(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::zeroed();
    let mut attr = MapElem {
        map_fd: map.as_raw_fd(),
        reserved: 0,
        key: address(key),
        value: address_mut(&mut value),
        flags: 0,
    };
    let found = found(bpf(command, &mut attr))?;
    // SAFETY: the memory is zeroed and then perhaps written by the kernel; `Pod` means that any
    // bytes are a valid value.
    Ok(found.map(|()| unsafe { value.assume_init() }))
}

/// Reads one element of a per-CPU array of `u64`: one value for each of `cpus` possible CPUs.
pub(super) fn map_lookup_per_cpu(
    map: BorrowedFd<'_>,
    index: u32,
    cpus: usize,
) -> io::Result<Vec<u64>> {
    let mut values = vec![0u64; cpus];
    let mut attr = MapElem {
        map_fd: map.as_raw_fd(),
        reserved: 0,
        key: address(&index),
        value: values.as_mut_ptr() as u64,
        flags: 0,
    };
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(values)
}

/// Sets one element of a per-CPU array of `u64` to 0 on each of `cpus` possible CPUs.
pub(super) fn map_clear_per_cpu(map: BorrowedFd<'_>, index: u32, cpus: usize) -> io::Result<()> {
    let values = vec![0u64; cpus];
    let mut attr = MapElem {
        map_fd: map.as_raw_fd(),
        reserved: 0,
        key: address(&index),
        value: values.as_ptr() as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Reads up to `N` elements of a hash map from where `cursor` stands (`None` = the beginning) and
/// returns where to go on, `None` at the end. Minimum kernel version: 5.6.
///
/// The caller vouches that the map has keys and values of the sizes of `K` and `V`.
pub(super) fn map_scan<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    cursor: Option<u32>,
    into: &mut Vec<(K, V)>,
) -> io::Result<Option<u32>> {
    // Larger than any bucket of a map whose bucket count is at least its max_entries.
    const N: u32 = 4_096;
    let mut keys = Vec::<K>::with_capacity(N as usize);
    let mut values = Vec::<V>::with_capacity(N as usize);
    let mut next = 0u32;
    let mut attr = Batch {
        in_batch: cursor.as_ref().map_or(0, address),
        out_batch: address_mut(&mut next),
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: N,
        map_fd: map.as_raw_fd(),
        elem_flags: 0,
        flags: 0,
    };
    let more = found(bpf(BPF_MAP_LOOKUP_BATCH, &mut attr))?.is_some();
    let count = attr.count.min(N) as usize;
    // SAFETY: the kernel wrote `count` keys, at most the capacity.
    unsafe { keys.set_len(count) };
    // SAFETY: and as many values.
    unsafe { values.set_len(count) };
    into.extend(keys.into_iter().zip(values));
    Ok(more.then_some(next))
}

/// ENOENT is an answer, not an error.
fn found(result: io::Result<libc::c_long>) -> io::Result<Option<()>> {
    match result {
        Ok(_) => Ok(Some(())),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attaches a program to a cgroup beside any other; closing the returned link detaches it at
/// once. Minimum kernel version: 5.7.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attr = LinkCreate {
        prog_fd: program.as_raw_fd(),
        target_fd: cgroup.as_raw_fd(),
        attach_type,
        flags: 0,
    };
    let fd = bpf(BPF_LINK_CREATE, &mut attr)?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel made this descriptor for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Times programs' runs until the descriptor is closed. Minimum kernel version: 5.8.
pub(super) fn enable_stats() -> io::Result<OwnedFd> {
    let fd = bpf(BPF_ENABLE_STATS, &mut EnableStats { kind: RUN_TIME })?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel made this descriptor for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The same open file under the lowest free number from `least` on.
pub(super) fn renumber(fd: OwnedFd, least: RawFd) -> Result<OwnedFd, (OwnedFd, io::Error)> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and touches no memory of ours; `fd` is open.
    let number = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    if number < 0 {
        return Err((fd, io::Error::last_os_error()));
    }
    // SAFETY: the kernel made this descriptor for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Ids of the programs that run for `cgroup`, in the order in which they run.
pub(super) fn effective_programs(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    /// Far more than anyone attaches to one hook; beyond it the kernel says ENOSPC.
    const MOST: u32 = 256;
    let mut ids = vec![0u32; MOST as usize];
    let mut attr = Query {
        target_fd: cgroup.as_raw_fd(),
        attach_type,
        query_flags: BPF_F_QUERY_EFFECTIVE,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MOST,
        reserved: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

/// Watches a descriptor for readability. Needs a tokio runtime.
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays open and is the same descriptor as long as it lives, and the
    // `AsyncFd` owns it; callers of this module do not replace it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// Cookie of the network namespace that a socket was made in. Minimum kernel version: 5.14.
///
/// # Errors
///
/// `ENOPROTOOPT` on an older kernel.
pub fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len: libc::socklen_t = 8;
    // SAFETY: the option writes at most `len` bytes to `cookie`, which is that long.
    let ret = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if ret != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

/// Bytes that can be read from a socket, as FIONREAD says.
pub(super) fn unread_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes one `int`, to `count`, which is live; the descriptor is open.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(count).map_err(io::Error::other)
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of the programs' time stamps.
pub fn now_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a live timespec. The call cannot fail: the clock exists on every kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
