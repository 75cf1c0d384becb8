//! Typed views of the maps. All methods take `&self`: a map is the kernel's, and every call is
//! one system call on it.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use aya::Pod;
use aya::maps::{Map, MapData};
use proxy_ebpf::{FlowKey, Frontend, FrontendKey, OrigDst, SocketCell, map};

use super::frontends::FrontendMaps;
use super::sets::{DirectMaps, DirectSet, SetMaps};
use super::{Error, fdinfo, now_ns, sys};
use crate::status::MapStatus;

/// One map with keys `K` and values `V`.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    pub(super) fd: OwnedFd,
    name: &'static str,
    max_entries: u32,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Takes the map called `name` out of a loaded object. Its key and value sizes are compared
    /// with `K` and `V`, for the object may be another version's (`--bpf-object`).
    pub(super) fn take(object: &mut aya::Ebpf, name: &'static str) -> Result<Self, Error> {
        let missing = || Error::OtherObject { name };
        let map = object.take_map(name).ok_or_else(missing)?;
        let (Map::Array(map) | Map::HashMap(map) | Map::PerCpuArray(map)) = map else {
            return Err(missing());
        };
        let shape = shape(&map).map_err(|source| Error::Map {
            operation: "query",
            name,
            source,
        })?;
        if (shape.key_bytes, shape.value_bytes) != (size_of::<K>(), size_of::<V>()) {
            return Err(Error::OtherObject { name });
        }
        let fd = map.fd().as_fd().try_clone_to_owned();
        let fd = fd.map_err(|source| Error::Map {
            operation: "keep",
            name,
            source,
        })?;
        Ok(Self {
            fd,
            name,
            max_entries: shape.max_entries,
            types: PhantomData,
        })
    }

    /// Name in the object.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Entries at most.
    pub(super) const fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// Writes one element. A full hash map is [`Error::MapFull`].
    pub(super) fn set(&self, key: &K, value: &V) -> Result<(), Error> {
        let written = sys::map_update(self.fd.as_fd(), key, value);
        written.map_err(|source| self.not_written(source))
    }

    /// Writes many elements, in few system calls. What was written before an error stays.
    pub(super) fn set_all(&self, elements: &[(K, V)]) -> Result<(), Error> {
        let written = sys::map_update_all(self.fd.as_fd(), elements);
        written.map_err(|source| self.not_written(source))
    }

    fn not_written(&self, source: io::Error) -> Error {
        if source.raw_os_error() == Some(libc::E2BIG) {
            return Error::MapFull {
                name: self.name,
                max_entries: self.max_entries,
            };
        }
        self.failed("write", source)
    }

    /// Removes one element; `false` if there was none.
    pub(super) fn remove(&self, key: &K) -> Result<bool, Error> {
        sys::map_delete(self.fd.as_fd(), key).map_err(|source| self.failed("delete from", source))
    }

    /// Reads one element.
    pub(super) fn read(&self, key: &K) -> Result<Option<V>, Error> {
        sys::map_lookup(self.fd.as_fd(), key).map_err(|source| self.failed("read", source))
    }

    /// Every element of a map. Elements that come or go meanwhile may or may not be in it.
    pub(super) fn scan(&self) -> Result<Vec<(K, V)>, Error> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            cursor = sys::map_scan(self.fd.as_fd(), cursor, &mut all)
                .map_err(|source| self.failed("scan", source))?;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// Fill level of a hash map, counted in the kernel.
    pub(super) fn status(&self) -> Result<MapStatus, Error> {
        self.status_of(|_| true)
    }

    /// As [`Self::status`], of a map some of whose elements stand for nothing.
    pub(super) fn status_of(&self, counts: impl Fn(&V) -> bool) -> Result<MapStatus, Error> {
        let all = self.scan()?.into_iter();
        Ok(MapStatus {
            name: self.name.to_owned(),
            entries: all.filter(|(_, value)| counts(value)).count() as u64,
            max_entries: self.max_entries.into(),
            memory_bytes: fdinfo::memory_bytes(self.fd.as_fd()).unwrap_or(0),
        })
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Map {
            operation,
            name: self.name,
            source,
        }
    }
}

impl Table<u32, u64> {
    /// Sum over CPUs of one element of a per-CPU array.
    pub(super) fn sum(&self, index: u32, cpus: usize) -> Result<u64, Error> {
        let values = sys::map_lookup_per_cpu(self.fd.as_fd(), index, cpus)
            .map_err(|source| self.failed("read", source))?;
        Ok(values.iter().sum())
    }

    /// Sets one element of a per-CPU array to 0.
    pub(super) fn clear(&self, index: u32, cpus: usize) -> Result<(), Error> {
        let cleared = sys::map_clear_per_cpu(self.fd.as_fd(), index, cpus);
        cleared.map_err(|source| self.failed("clear", source))
    }
}

struct Shape {
    key_bytes: usize,
    value_bytes: usize,
    max_entries: u32,
}

fn shape(map: &MapData) -> io::Result<Shape> {
    let shape = map.info().map_err(io::Error::other)?;
    Ok(Shape {
        key_bytes: shape.key_size() as usize,
        value_bytes: shape.value_size() as usize,
        max_entries: shape.max_entries(),
    })
}

/// Where redirected connections were meant to go. Cheap to clone, lock-free.
#[derive(Clone, Debug)]
pub struct OrigDstMap(pub(super) Arc<Table<FlowKey, OrigDst>>);

impl OrigDstMap {
    /// Looks up the destination of an accepted connection and removes it, in one system call.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] if the kernel refuses; the connection has no known destination then and is
    /// to be reset, as it is for `None`.
    pub fn take(&self, flow: &FlowKey) -> Result<Option<OrigDst>, Error> {
        sys::map_take(self.0.fd.as_fd(), flow).map_err(|source| self.0.failed("take from", source))
    }
}

/// One worker's sign of life.
#[derive(Debug)]
pub struct Heartbeat {
    pub(super) beats: Arc<Table<u32, u64>>,
    pub(super) worker: u32,
}

impl Heartbeat {
    /// Says that the worker is alive now.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] if the kernel refuses; the hooks will pass connections before long.
    pub fn beat(&self) -> Result<(), Error> {
        self.beats.set(&self.worker, &now_ns())
    }
}

/// Age of the oldest beat of the first `workers` workers; since boot if one never beat.
pub(super) fn oldest_age(beats: &Table<u32, u64>, workers: u32) -> Result<Duration, Error> {
    let now_ns = now_ns();
    let mut oldest_ns = now_ns;
    for worker in 0..workers.min(beats.max_entries()) {
        let beat_ns = beats.read(&worker)?.unwrap_or(0);
        oldest_ns = oldest_ns.min(beat_ns);
    }
    Ok(Duration::from_nanos(now_ns - oldest_ns))
}

/// Removes flows that were made more than `older_than` ago; returns how many.
pub(super) fn sweep(flows: &Table<FlowKey, OrigDst>, older_than: Duration) -> Result<u64, Error> {
    let limit_ns = u64::try_from(older_than.as_nanos()).unwrap_or(u64::MAX);
    let horizon_ns = now_ns().saturating_sub(limit_ns);
    let mut swept = 0;
    for (flow, seen) in flows.scan()? {
        if seen.since_ns() > horizon_ns {
            continue;
        }
        // The port may have been used again since the scan: remove only what was seen.
        if flows.read(&flow)? == Some(seen) && flows.remove(&flow)? {
            swept += 1;
        }
    }
    Ok(swept)
}

fn storage(object: &mut aya::Ebpf, name: &'static str) -> Result<OwnedFd, Error> {
    let Some(Map::SkStorage(map)) = object.take_map(name) else {
        return Err(Error::OtherObject { name });
    };
    let fd = map.fd().as_fd().try_clone_to_owned();
    fd.map_err(|source| Error::Map {
        operation: "keep",
        name,
        source,
    })
}

/// Maps whose names are those of [`proxy_ebpf::map`].
#[derive(Debug)]
pub(super) struct Maps {
    /// Only the programs write it, as the next one.
    pub(super) socket_cells: Table<u32, SocketCell>,
    pub(super) socket_dst: OwnedFd,
    pub(super) pods: Table<u64, proxy_ebpf::PodEntry>,
    pub(super) addresses: Arc<Table<[u8; 16], proxy_ebpf::PodAddress>>,
    pub(super) frontends: Table<FrontendKey, Frontend>,
    pub(super) orig_dst: Arc<Table<FlowKey, OrigDst>>,
    pub(super) agents: Table<u64, u8>,
    pub(super) heartbeats: Arc<Table<u32, u64>>,
    pub(super) settings: Table<u32, proxy_ebpf::Settings>,
    pub(super) stats: Table<u32, u64>,
    pub(super) direct: DirectMaps,
}

impl Maps {
    /// Takes them out of a loaded object.
    pub(super) fn take(object: &mut aya::Ebpf) -> Result<Self, Error> {
        Ok(Self {
            socket_cells: Table::take(object, map::SOCKET_CELLS)?,
            socket_dst: storage(object, map::SOCKET_DST)?,
            pods: Table::take(object, map::PODS)?,
            addresses: Arc::new(Table::take(object, map::ADDRESSES)?),
            frontends: Table::take(object, map::FRONTENDS)?,
            orig_dst: Arc::new(Table::take(object, map::ORIG_DST)?),
            agents: Table::take(object, map::AGENTS)?,
            heartbeats: Arc::new(Table::take(object, map::HEARTBEATS)?),
            settings: Table::take(object, map::SETTINGS)?,
            stats: Table::take(object, map::STATS)?,
            direct: DirectMaps::take(object)?,
        })
    }
}

impl FrontendMaps for Maps {
    fn set_frontend(&self, key: &FrontendKey, value: &Frontend) -> Result<(), Error> {
        self.frontends.set(key, value)
    }

    fn remove_frontend(&self, key: &FrontendKey) -> Result<(), Error> {
        self.frontends.remove(key).map(drop)
    }
}

impl SetMaps for Maps {
    fn write(&self, number: u32, set: &DirectSet) -> Result<(), Error> {
        self.direct.write(number, set)
    }

    fn erase(&self, number: u32, set: &DirectSet) -> Result<(), Error> {
        self.direct.erase(number, set)
    }
}
