//! What one agent hands to the next of the kernel side: the maps that say what connections are to
//! the programs, and the links. Everything else the successor makes anew.
//!
//! Nothing that was received is believed: the kernel is asked what each descriptor is.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use proxy_ebpf::{
    Affinity, AffinityKey, EndpointKey, EndpointState, FlowKey, OrigDst, SocketCell, SocketDst,
    map, program,
};

use super::links::{HOOKS, Links, Program};
use super::sys::{self, LinkInfo, MapInfo};
use super::{Error, Kernel, LoadOptions, lock, object};

/// `enum bpf_map_type`, include/uapi/linux/bpf.h
const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_SK_STORAGE: u32 = 24;
/// `enum bpf_link_type`, the same header.
const BPF_LINK_TYPE_CGROUP: u32 = 3;

/// Why something that was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// Not as many descriptors as there should be.
    #[error("{found} descriptors came in place of {wanted}")]
    Count {
        /// As many.
        found: usize,
        /// As there should be.
        wanted: usize,
    },
    /// A map of another layout: the two agents cannot read each other's destinations.
    #[error("map {name} has another layout than this agent's")]
    OtherMap {
        /// Map.
        name: &'static str,
    },
    /// A link to something else.
    #[error("the link of {name} is not this cgroup's, or of another hook")]
    OtherLink {
        /// Program.
        name: &'static str,
    },
    /// The programs were loaded, but not with the map that they should share.
    #[error("program {name} does not use the map that it was given")]
    NotShared {
        /// Program.
        name: &'static str,
    },
    /// The kernel refused.
    #[error("{operation} {name}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// With what.
        name: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// Why the programs cannot be loaded on another agent's maps.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// As without another agent.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// The maps are of no use.
    #[error(transparent)]
    Inherit(#[from] InheritError),
}

impl InheritError {
    pub(super) const fn kernel(
        operation: &'static str,
        name: &'static str,
    ) -> impl Fn(io::Error) -> Self {
        move |source| Self::Kernel {
            operation,
            name,
            source,
        }
    }
}

/// How many maps are shared.
const SHARED: usize = 5;

/// One of the maps that are shared: its name, its kind, the sizes of its keys and values, and a
/// program that uses it.
type Shape = (&'static str, u32, usize, usize, &'static str);

/// The shared maps, in the order in which they are handed over.
const SHAPES: [Shape; SHARED] = [
    (
        map::SOCKET_CELLS,
        BPF_MAP_TYPE_ARRAY,
        size_of::<u32>(),
        size_of::<SocketCell>(),
        program::CONNECT4,
    ),
    (
        map::SOCKET_DST,
        BPF_MAP_TYPE_SK_STORAGE,
        size_of::<u32>(),
        size_of::<SocketDst>(),
        program::CONNECT4,
    ),
    (
        map::ORIG_DST,
        BPF_MAP_TYPE_HASH,
        size_of::<FlowKey>(),
        size_of::<OrigDst>(),
        program::SOCKOPS,
    ),
    (
        map::ENDPOINTS,
        BPF_MAP_TYPE_HASH,
        size_of::<EndpointKey>(),
        size_of::<EndpointState>(),
        program::SOCKOPS,
    ),
    (
        map::AFFINITY,
        BPF_MAP_TYPE_HASH,
        size_of::<AffinityKey>(),
        size_of::<Affinity>(),
        program::CONNECT4,
    ),
];

/// The maps that outlive the agent that made them: a connection that was steered under one agent
/// is accepted, answers getpeername(2), and is counted to its end, under the next.
#[derive(Debug)]
pub struct SharedMaps([OwnedFd; SHARED]);

impl SharedMaps {
    /// Checks what came from another agent; the order is that of [`super::Kernel::lend_maps`].
    ///
    /// # Errors
    ///
    /// The layouts differ: let the other agent go on.
    pub fn check(maps: Vec<OwnedFd>) -> Result<Self, InheritError> {
        let found = maps.len();
        let Ok(maps) = <[OwnedFd; SHARED]>::try_from(maps) else {
            return Err(InheritError::Count {
                found,
                wanted: SHARED,
            });
        };
        for ((name, kind, key_bytes, value_bytes, _), fd) in SHAPES.into_iter().zip(&maps) {
            let found: MapInfo =
                sys::info(fd.as_fd()).map_err(InheritError::kernel("look at map", name))?;
            let layout = (found.key_bytes as usize, found.value_bytes as usize);
            if found.kind != kind || layout != (key_bytes, value_bytes) {
                return Err(InheritError::OtherMap { name });
            }
        }
        Ok(Self(maps))
    }

    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        let names = SHAPES.into_iter().map(|(name, ..)| name);
        names.zip(self.0.iter().map(AsFd::as_fd))
    }

    /// Asks the kernel whether the loaded programs use these maps.
    pub(super) fn confirm(&self, programs: &[Program]) -> Result<(), InheritError> {
        for ((name, .., user), fd) in SHAPES.into_iter().zip(&self.0) {
            let shared: MapInfo =
                sys::info(fd.as_fd()).map_err(InheritError::kernel("look at map", name))?;
            let uses = |program: &&Program| program.maps.contains(&shared.id);
            let user = programs.iter().find(|program| program.name == user);
            if user.filter(uses).is_none() {
                return Err(InheritError::NotShared { name });
            }
        }
        Ok(())
    }
}

impl Kernel {
    /// As [`Kernel::load`], with the maps of another agent where those are shared.
    ///
    /// # Errors
    ///
    /// [`LoadError::Inherit`] if the maps cannot be shared: the other agent is to go on.
    pub fn load_sharing(options: &LoadOptions, shared: &SharedMaps) -> Result<Self, LoadError> {
        let mut object = object::open(options)?;
        object::share(&mut object, shared)?;
        let kernel = Self::finish(object)?;
        shared.confirm(&kernel.programs)?;
        Ok(kernel)
    }

    /// Takes over the attachment of another agent: its links run these programs from now on.
    ///
    /// # Errors
    ///
    /// [`LoadError::Inherit`] if they are not the links of `cgroup`, and nothing was changed. Else
    /// some may run these programs and some the former ones, which whoever lent them can set right
    /// with [`Self::reclaim_links`].
    pub fn take_links(&self, cgroup: &File, links: Vec<OwnedFd>) -> Result<(), LoadError> {
        check_links(&links, cgroup)?;
        let cgroup = cgroup.as_fd().try_clone_to_owned();
        let cgroup = cgroup.map_err(InheritError::kernel("keep", "the cgroup"))?;
        let links = Links::inherit(cgroup, links);
        links.run(&self.programs)?;
        *lock(&self.links) = Some(links);
        Ok(())
    }

    /// Further descriptors of the links, for another agent; none if nothing is attached.
    ///
    /// # Errors
    ///
    /// The limit on open files.
    pub fn lend_links(&self) -> io::Result<Vec<OwnedFd>> {
        let links = lock(&self.links);
        links.as_ref().map_or_else(|| Ok(Vec::new()), Links::lend)
    }

    /// Has the links run these programs again, after another agent had them.
    ///
    /// # Errors
    ///
    /// [`Error::Attach`]: not all of them do.
    pub fn reclaim_links(&self) -> Result<(), Error> {
        let links = lock(&self.links);
        let links = links.as_ref();
        links.map_or(Ok(()), |links| links.run(&self.programs))
    }

    /// Further descriptors of the maps that the next agent shares: see [`SharedMaps::check`].
    ///
    /// # Errors
    ///
    /// The limit on open files.
    pub fn lend_maps(&self) -> io::Result<Vec<OwnedFd>> {
        let maps = &self.maps;
        let all = [
            &maps.socket_cells.fd,
            &maps.socket_dst,
            &maps.orig_dst.fd,
            &maps.direct.endpoints.fd,
            &maps.direct.affinity.fd,
        ];
        all.into_iter().map(OwnedFd::try_clone).collect()
    }
}

/// Checks that `links` are those of [`HOOKS`], in that order, on `cgroup`.
pub(super) fn check_links(links: &[OwnedFd], cgroup: &File) -> Result<(), InheritError> {
    if links.len() != HOOKS.len() {
        return Err(InheritError::Count {
            found: links.len(),
            wanted: HOOKS.len(),
        });
    }
    let metadata = cgroup.metadata();
    let wanted_id = metadata
        .map_err(InheritError::kernel("look at", "the cgroup"))?
        .ino();
    for (link, (name, attach_type)) in links.iter().zip(HOOKS) {
        let found: LinkInfo =
            sys::info(link.as_fd()).map_err(InheritError::kernel("look at the link of", name))?;
        let place = (found.kind, found.cgroup_id, found.attach_type);
        if place != (BPF_LINK_TYPE_CGROUP, wanted_id, attach_type) {
            return Err(InheritError::OtherLink { name });
        }
    }
    Ok(())
}
