//! The network namespaces that are no pod's: the node's, the agent's, and those it was started from.
//!
//! A new container's first process is in the pod's cgroup before it is in the pod's namespace, and
//! some runtimes keep a monitor there for good: until then they are in the runtime's namespace,
//! which is the node's. Process 1 does not tell which that is where nodes share a PID namespace,
//! so the agent goes by its own ancestors: in a pod they are the runtime's processes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::net::Netns;

use super::cgroup;

/// Namespaces in which no pod is ever captured.
#[derive(Debug)]
pub struct Surroundings {
    node: Arc<Netns>,
    own: Arc<Netns>,
    others: Vec<Arc<Netns>>,
}

/// Whose a process's namespace is, if it is no pod's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Owner {
    Node,
    Agent,
}

impl Surroundings {
    /// Looks around; `root` tells whether the agent itself is a pod.
    ///
    /// # Errors
    ///
    /// The agent's own namespace cannot be opened.
    pub fn look(root: &Path) -> io::Result<Self> {
        let mut lineage = Netns::lineage()?.into_iter().map(Arc::new);
        let own = lineage
            .next()
            .map_or_else(|| Netns::current().map(Arc::new), Ok)?;
        let mut others: Vec<_> = lineage.collect();
        let node = if cgroup::holds_this_process(root) && !others.is_empty() {
            others.remove(0)
        } else {
            Arc::clone(&own)
        };
        Ok(Self { node, own, others })
    }

    /// The node's namespace, whose cookie must never be in `PODS`.
    pub const fn node(&self) -> &Arc<Netns> {
        &self.node
    }

    /// The agent's own, where its threads are at home.
    pub const fn own(&self) -> &Arc<Netns> {
        &self.own
    }

    /// Tells whose the namespace of a process is; `None` if it may be a pod's.
    pub(super) fn owner(&self, pid: u32) -> io::Result<Option<Owner>> {
        for netns in [&self.node].into_iter().chain(&self.others) {
            if netns.is_of_pid(pid)? {
                return Ok(Some(Owner::Node));
            }
        }
        Ok(self.own.is_of_pid(pid)?.then_some(Owner::Agent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_no_pod_is_at_home_on_the_node() {
        let around = Surroundings::look(Path::new("/no/such/root")).unwrap();
        assert!(around.node().is_same(around.own()));
        assert_eq!(around.owner(std::process::id()).unwrap(), Some(Owner::Node));
    }
}
