//! From a pod's cgroup to its network namespace.

use std::io;

use crate::capture::layout;
use crate::net::Netns;

use super::{Fault, PodTask};

/// Where a pod's processes are.
#[derive(Debug)]
pub(super) enum Located {
    /// In the namespace that the task holds.
    Held,
    /// In another one, which is neither the node's nor the agent's.
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
    /// Looks at the processes, the oldest container's first, for one that is in a namespace of its
    /// own.
    pub(super) fn locate(&self) -> Result<Located, Fault> {
        let mut fleeting = false;
        let mut best = Located::Empty;
        for pid in layout::processes(&self.dir) {
            if pid == 0 {
                best = Located::Hidden;
                continue;
            }
            match self.locate_process(pid) {
                Ok(found @ (Located::Held | Located::New(_))) => return Ok(found),
                Ok(found) => best = found,
                Err(error) if is_gone(&error) => fleeting = true,
                Err(source) => return Err(Fault::Netns { pid, source }),
            }
        }
        // A process may have moved between two directories while they were read.
        let missed = matches!(best, Located::Empty) && layout::is_populated(&self.dir);
        Ok(if fleeting || missed {
            Located::Fleeting
        } else {
            best
        })
    }

    fn locate_process(&self, pid: u32) -> io::Result<Located> {
        if let Some(held) = &self.held
            && held.netns.is_of_pid(pid)?
        {
            return Ok(Located::Held);
        }
        if self.context.node_netns.is_of_pid(pid)? {
            return Ok(Located::Node);
        }
        if self.context.own_netns.is_of_pid(pid)? {
            return Ok(Located::Own);
        }
        Netns::of_pid(pid).map(Located::New)
    }
}

/// The process has ended: its directory is gone, or was when it was read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}
