//! From the bytes of the object file to loaded programs and maps.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::Map;
use aya::programs::{CgroupSock, CgroupSockAddr, ProgramType, SkMsg, SockOps};
use aya::sys::{BpfHelper, is_helper_supported};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use proxy_ebpf::{bounds, global, map, program};
use tracing::level_filters::LevelFilter;

use super::inherit::SharedMaps;
use super::links::{HOOKS, Program};
use super::sys::MapInfo;
use super::{Error, InheritError, btf, sys};

/// Sockets to a connection that may be accelerated: those that are made ready and not joined among
/// them.
const SOCKETS_EACH: u32 = bounds::SOCKETS / bounds::CREDITS;

static EMBEDDED: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/proxy-ebpf"));

/// What to load, and how loud.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Object file instead of the embedded one (`--bpf-object`).
    pub object: Option<PathBuf>,
    /// Level from which the programs' messages are dropped in the kernel. `OFF` costs nothing.
    pub log_level: LevelFilter,
    /// Connections that may be accelerated at a time, and no more than [`bounds::CREDITS`]: so much
    /// memory is taken from the start.
    pub accelerated: u32,
}

/// Loads the object: maps are created, programs are not yet.
pub(super) fn open(options: &LoadOptions) -> Result<Ebpf, Error> {
    let bytes = read(options.object.as_deref())?;
    let log_level = log_level(options.log_level);
    let refuse_with_errno = refuse_with_errno();
    let offsets = btf::offsets();
    let accelerated = options.accelerated.clamp(1, bounds::CREDITS);
    EbpfLoader::new()
        .map_max_entries(map::CREDITS, accelerated)
        .map_max_entries(map::JOINED, accelerated)
        .map_max_entries(map::SOCKETS, accelerated * SOCKETS_EACH)
        .map_max_entries(map::PAIRS, accelerated * SOCKETS_EACH / 2)
        .override_global(aya_log::LEVEL, &log_level, true)
        .override_global(global::REFUSE_WITH_ERRNO, &refuse_with_errno, true)
        .override_global(global::SK_ERR_OFFSET, &offsets.sk_err, true)
        .override_global(global::SK_KERN_SOCK_BIT, &offsets.sk_kern_sock_bits, true)
        .override_global(global::WRITE_SEQ_OFFSET, &offsets.write_seq, true)
        .override_global(global::COPIED_SEQ_OFFSET, &offsets.copied_seq, true)
        .load(&bytes)
        .map_err(|source| Error::Load {
            source: Box::new(source),
        })
}

/// Puts another agent's maps in the place of those that were just made; programs that are loaded
/// from here on use them.
///
/// The instructions name each map by the number of its descriptor, which the kernel resolves when
/// a program is loaded. aya has no other way in than a pin in a bpffs, which would take a mount.
pub(super) fn share(object: &mut Ebpf, shared: &SharedMaps) -> Result<(), InheritError> {
    for (name, with) in shared.named() {
        let Some(Map::HashMap(map) | Map::SkStorage(map) | Map::Array(map)) = object.map_mut(name)
        else {
            return Err(InheritError::OtherMap { name });
        };
        sys::replace(map.fd().as_fd(), with).map_err(InheritError::kernel("share map", name))?;
    }
    Ok(())
}

/// Loads every program, in the order of [`HOOKS`].
pub(super) fn load_programs(object: &mut Ebpf) -> Result<Vec<Program>, Error> {
    HOOKS
        .into_iter()
        .map(|(name, attach_type)| load_program(object, name, attach_type))
        .collect()
}

fn load_program(object: &mut Ebpf, name: &'static str, attach_type: u32) -> Result<Program, Error> {
    let fail = |source| Error::Program {
        name,
        source: Box::new(source),
    };
    let found = object
        .program_mut(name)
        .ok_or(Error::OtherObject { name })?;
    let (fd, loaded) = if name == program::SOCKOPS {
        let hook: &mut SockOps = found.try_into().map_err(fail)?;
        hook.load().map_err(fail)?;
        (hook.fd().map_err(fail)?, hook.info().map_err(fail)?)
    } else if name == program::SOCK_RELEASE {
        let hook: &mut CgroupSock = found.try_into().map_err(fail)?;
        hook.load().map_err(fail)?;
        (hook.fd().map_err(fail)?, hook.info().map_err(fail)?)
    } else {
        let hook: &mut CgroupSockAddr = found.try_into().map_err(fail)?;
        hook.load().map_err(fail)?;
        (hook.fd().map_err(fail)?, hook.info().map_err(fail)?)
    };
    let keep = fd.as_fd().try_clone_to_owned();
    let maps = loaded.map_ids().map_err(fail)?.unwrap_or_default();
    Ok(Program {
        name,
        attach_type,
        fd: keep.map_err(|source| Error::Attach { name, source })?,
        id: loaded.id(),
        maps,
    })
}

/// Loads the program that accelerates; it is for the socket map alone.
pub(super) fn load_accelerator(object: &mut Ebpf) -> Result<OwnedFd, Error> {
    let name = program::ACCELERATE;
    let fail = |source| Error::Program {
        name,
        source: Box::new(source),
    };
    let found = object
        .program_mut(name)
        .ok_or(Error::OtherObject { name })?;
    let hook: &mut SkMsg = found.try_into().map_err(fail)?;
    hook.load().map_err(fail)?;
    let keep = hook.fd().map_err(fail)?.as_fd().try_clone_to_owned();
    keep.map_err(|source| Error::Attach { name, source })
}

/// Takes a map whose elements are sockets' own; its sizes are compared with what they should be.
pub(super) fn take_sockets(
    object: &mut Ebpf,
    name: &'static str,
    (key_bytes, value_bytes): (usize, usize),
) -> Result<OwnedFd, Error> {
    let missing = || Error::OtherObject { name };
    let failed = |source| Error::Map {
        operation: "keep",
        name,
        source,
    };
    let map = object.take_map(name).ok_or_else(missing)?;
    let (Map::SockHash(map) | Map::SkStorage(map)) = map else {
        return Err(missing());
    };
    let shape: MapInfo = sys::info(map.fd().as_fd()).map_err(failed)?;
    if (shape.key_bytes as usize, shape.value_bytes as usize) != (key_bytes, value_bytes) {
        return Err(missing());
    }
    map.fd().as_fd().try_clone_to_owned().map_err(failed)
}

fn read(object: Option<&Path>) -> Result<Cow<'static, [u8]>, Error> {
    match object {
        Some(path) => std::fs::read(path)
            .map(Cow::Owned)
            .map_err(|source| Error::Read {
                path: path.to_owned(),
                source,
            }),
        None if EMBEDDED.is_empty() => Err(Error::NoObject),
        None => Ok(Cow::Borrowed(EMBEDDED)),
    }
}

/// `aya_log_common::Level` counts from 1, error, to 5, trace.
fn log_level(filter: LevelFilter) -> u8 {
    match filter.into_level() {
        None => 0,
        Some(tracing::Level::ERROR) => 1,
        Some(tracing::Level::WARN) => 2,
        Some(tracing::Level::INFO) => 3,
        Some(tracing::Level::DEBUG) => 4,
        Some(tracing::Level::TRACE) => 5,
    }
}

/// From 6.1 on a connect hook can say ECONNREFUSED; before, a refusal is EPERM.
fn refuse_with_errno() -> u8 {
    let helper = BpfHelper::BPF_FUNC_set_retval;
    match is_helper_supported(ProgramType::CgroupSockAddr, helper) {
        Ok(supported) => u8::from(supported),
        Err(error) => {
            tracing::debug!(%error, "cannot probe bpf_set_retval");
            0
        }
    }
}
