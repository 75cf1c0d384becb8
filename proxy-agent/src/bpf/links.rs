//! Attachment: six programs on one cgroup, held by link file descriptors. Nothing is pinned, so
//! the kernel detaches them when the agent dies, however it dies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use proxy_ebpf::program;

use super::{Error, fdinfo, sys};
use crate::status::ProgramStatus;

/// Every program with its hook (`enum bpf_attach_type`, include/uapi/linux/bpf.h).
pub(super) const HOOKS: [(&str, u32); 6] = [
    (program::CONNECT4, 10),
    (program::CONNECT6, 11),
    (program::GETPEERNAME4, 29),
    (program::GETPEERNAME6, 30),
    (program::SOCK_RELEASE, 34),
    (program::SOCKOPS, 3),
];

/// Numbers that the links' descriptors are moved to, the first that the limit on open files allows.
///
/// The kernel lets go of a dead process's descriptors from the highest number down (their last
/// references are put by task work, newest first), so what stands above every socket goes before
/// them: a connect that the hooks still steer finds its listener. Not higher than need be, since
/// the descriptor table grows up to the number.
const HIGH: [RawFd; 4] = [65_000, 16_000, 4_000, 1_000];

/// A loaded program and the hook that it is for.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) attach_type: u32,
    pub(super) fd: OwnedFd,
    pub(super) id: u32,
    /// Ids of the maps that it uses.
    pub(super) maps: Vec<u32>,
}

impl Program {
    fn attach(&self, cgroup: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
        sys::link_create(self.fd.as_fd(), cgroup, self.attach_type).map_err(|source| {
            Error::Attach {
                name: self.name,
                source,
            }
        })
    }

    /// What the kernel says about this program's hook on `cgroup`.
    fn status(&self, cgroup: BorrowedFd<'_>) -> io::Result<ProgramStatus> {
        let effective = sys::effective_programs(cgroup, self.attach_type)?;
        let (own, others) = effective
            .iter()
            .partition::<Vec<u32>, _>(|id| **id == self.id);
        Ok(ProgramStatus {
            attached: !own.is_empty(),
            others,
            ..self.unattached()
        })
    }

    fn unattached(&self) -> ProgramStatus {
        let (timed_runs, total_ns) = fdinfo::runs(self.fd.as_fd()).unwrap_or_default();
        ProgramStatus {
            name: self.name.to_owned(),
            id: self.id,
            attached: false,
            others: Vec::new(),
            timed_runs,
            mean_ns: total_ns.checked_div(timed_runs).unwrap_or(0),
        }
    }
}

/// The programs on one cgroup. Dropping the value detaches them at once.
#[derive(Debug)]
pub(super) struct Links {
    cgroup: OwnedFd,
    /// In the order of [`HOOKS`].
    links: Vec<OwnedFd>,
}

impl Links {
    /// Attaches all `programs`, beside any of others; on error none stays attached.
    ///
    /// Sockops comes first and goes last, on drop as in the kernel's own closing of a dead
    /// process's descriptors (the newest first): what is steered must find its flow published.
    pub(super) fn attach(programs: &[Program], cgroup: BorrowedFd<'_>) -> Result<Self, Error> {
        let keep = cgroup.try_clone_to_owned();
        let cgroup = keep.map_err(|source| Error::Attach {
            name: "cgroup",
            source,
        })?;
        let mut links = programs
            .iter()
            .rev()
            .map(|program| program.attach(cgroup.as_fd()).map(above_sockets))
            .collect::<Result<Vec<_>, _>>()?;
        links.reverse();
        Ok(Self { cgroup, links })
    }

    /// Takes links over as they are; what they run is for [`Links::run`].
    ///
    /// They are moved above the sockets as those of [`Links::attach`], sockops lowest.
    pub(super) fn inherit(cgroup: OwnedFd, links: Vec<OwnedFd>) -> Self {
        let mut links: Vec<_> = links.into_iter().rev().map(above_sockets).collect();
        links.reverse();
        Self { cgroup, links }
    }

    /// Has every link run `programs`, sockops first: what is steered must find its flow published.
    pub(super) fn run(&self, programs: &[Program]) -> Result<(), Error> {
        for (program, link) in programs.iter().zip(&self.links).rev() {
            let updated = sys::link_update(link.as_fd(), program.fd.as_fd());
            updated.map_err(|source| Error::Attach {
                name: program.name,
                source,
            })?;
        }
        Ok(())
    }

    /// Further descriptors of the same links.
    pub(super) fn lend(&self) -> io::Result<Vec<OwnedFd>> {
        let links = self.links.iter();
        links.map(OwnedFd::try_clone).collect()
    }
}

/// Moves a link's descriptor above those of sockets, where the limit on open files allows it.
fn above_sockets(link: OwnedFd) -> OwnedFd {
    let mut link = link;
    for least in HIGH {
        link = match sys::renumber(link, least) {
            Ok(moved) => return moved,
            Err((kept, _too_high)) => kept,
        };
    }
    tracing::warn!("few files may be open: a kill can cut connections that are being made");
    link
}

/// Every program, as the kernel lists it on the cgroup of `links`; not attached if it cannot say.
pub(super) fn statuses(programs: &[Program], links: Option<&Links>) -> Vec<ProgramStatus> {
    programs
        .iter()
        .map(|program| {
            let Some(links) = links else {
                return program.unattached();
            };
            program.status(links.cgroup.as_fd()).unwrap_or_else(|error| {
                tracing::warn!(program = program.name, %error, "cannot query the cgroup's programs");
                program.unattached()
            })
        })
        .collect()
}
