//! From a pod's cgroup to its network namespace.

use std::io;

use crate::capture::layout;
use crate::capture::surroundings::Owner;
use crate::net::Netns;

use super::{Fault, PodTask};

/// Where a pod's processes are.
#[derive(Debug)]
pub(super) enum Located {
    /// In the namespace that the task holds.
    Held,
    /// All in other ones; this is the oldest container's that is neither the node's nor the agent's.
    New(Netns),
    /// In the agent's own.
    Own,
    /// In the node's: on the way to the pod's, since the runtime puts a process into its cgroup
    /// first; or the pod is on the host network and its object is not known.
    Node,
    /// Nowhere: there are none.
    Empty,
    /// In a PID namespace that the agent cannot see.
    Hidden,
    /// They came or went while being looked at.
    Fleeting,
}

impl PodTask {
    /// Looks at the processes, the oldest container's first: that is the sandbox, which is in the
    /// pod's namespace, while containers may make further ones of their own.
    pub(super) fn locate(&self) -> Result<Located, Fault> {
        let mut fleeting = false;
        let mut candidate = None;
        let mut best = Located::Empty;
        for pid in layout::processes(&self.dir) {
            match self.look_at(pid) {
                Ok(Look::Held) => return Ok(Located::Held),
                Ok(Look::Foreign) => candidate = candidate.or(Some(pid)),
                Ok(Look::Node) => best = Located::Node,
                Ok(Look::Own) => best = Located::Own,
                Ok(Look::Hidden) => best = Located::Hidden,
                Err(error) if is_gone(&error) => fleeting = true,
                Err(source) => return Err(Fault::Netns { pid, source }),
            }
        }
        if let Some(pid) = candidate {
            return self.open(pid);
        }
        // A process may have moved between two directories while they were read.
        let missed = matches!(best, Located::Empty) && layout::is_populated(&self.dir);
        Ok(if fleeting || missed {
            Located::Fleeting
        } else {
            best
        })
    }

    fn look_at(&self, pid: u32) -> io::Result<Look> {
        if pid == 0 {
            return Ok(Look::Hidden);
        }
        if let Some(held) = &self.held
            && held.netns.is_of_pid(pid)?
        {
            return Ok(Look::Held);
        }
        Ok(match self.context.surroundings.owner(pid)? {
            Some(Owner::Node) => Look::Node,
            Some(Owner::Agent) => Look::Own,
            None => Look::Foreign,
        })
    }

    fn open(&self, pid: u32) -> Result<Located, Fault> {
        match Netns::of_pid(pid) {
            // The process is still the one that was listed: its number was not given to another.
            Ok(netns) if layout::processes(&self.dir).contains(&pid) => Ok(Located::New(netns)),
            Ok(_) => Ok(Located::Fleeting),
            Err(error) if is_gone(&error) => Ok(Located::Fleeting),
            Err(source) => Err(Fault::Netns { pid, source }),
        }
    }
}

/// Where one process is.
enum Look {
    Held,
    Node,
    Own,
    Foreign,
    Hidden,
}

/// The process has ended: its directory is gone, or was when it was read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}
