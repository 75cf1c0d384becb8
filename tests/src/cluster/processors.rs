//! Which processors a cluster's processes run on.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::{Cluster, control_plane};

/// Looks for threads that were started while others were moved; those they start are moved with them.
const LOOKS: usize = 3;

/// The control plane's processors and the nodes'. Dropping it gives all of them to everybody again.
#[derive(Debug)]
#[must_use = "they are apart until it is dropped"]
pub struct Apart<'a> {
    cluster: &'a Cluster,
    all: CpuSet,
}

impl Cluster {
    /// As in a cluster whose control plane is on a machine of its own: etcd, the API server, its
    /// two companions and this process, which asks them, keep to the first of the processors that
    /// this process may use; all else that runs on the nodes keeps to the others.
    ///
    /// # Errors
    /// There is only one processor, or a process cannot be moved.
    pub fn keep_apart(&self) -> Result<Apart<'_>> {
        let all = sched_getaffinity(Pid::this()).context("ask for the processors")?;
        let mut numbers = (0..CpuSet::count()).filter(|&cpu| all.is_set(cpu).unwrap_or(false));
        let first = numbers.next().context("a processor")?;
        let (mut one, mut others) = (CpuSet::new(), all);
        one.set(first).context("name a processor")?;
        others.unset(first).context("name a processor")?;
        ensure!(numbers.next().is_some(), "the machine has one processor");
        let apart = Apart { cluster: self, all };
        apart.place(&one, &others)?;
        Ok(apart)
    }

    /// Processes of the control plane, and all others of the nodes.
    fn processes(&self) -> Result<(BTreeSet<u32>, BTreeSet<u32>)> {
        let first = self.node(1)?;
        let names = control_plane::NAMES.iter();
        let control: BTreeSet<u32> = names.flat_map(|name| first.processes_of(name)).collect();
        ensure!(!control.is_empty(), "the control plane does not run");
        let nodes = self.nodes.iter().flat_map(|node| node.processes());
        let rest = nodes.filter(|pid| !control.contains(pid)).collect();
        Ok((control, rest))
    }
}

impl Apart<'_> {
    fn place(&self, control: &CpuSet, nodes: &CpuSet) -> Result<()> {
        for _ in 0..LOOKS {
            let (mut controls, rest) = self.cluster.processes()?;
            controls.insert(std::process::id());
            for (pids, processors) in [(controls, control), (rest, nodes)] {
                pids.into_iter().try_for_each(|pid| keep(pid, processors))?;
            }
        }
        Ok(())
    }
}

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.place(&self.all, &self.all) {
            use std::io::Write as _;
            // There is nobody to return it to.
            let _ = writeln!(std::io::stderr(), "processors are still kept: {error:#}");
        }
    }
}

/// Has every thread of a process run on these processors. One that has ended is no error.
fn keep(pid: u32, processors: &CpuSet) -> Result<()> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Ok(());
    };
    for thread in threads.flatten() {
        let name = thread.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        match sched_setaffinity(Pid::from_raw(number), processors) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("move thread {number}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_moved_with_its_threads_and_one_that_has_ended_is_no_error() {
        let mut cat = Command::new("cat");
        let mut child = cat.stdin(Stdio::piped()).spawn().unwrap();
        let of = |pid| sched_getaffinity(Pid::from_raw(i32::try_from(pid).unwrap()));
        let all = of(child.id()).unwrap();
        let first = (0..CpuSet::count()).find(|&cpu| all.is_set(cpu).unwrap());
        let mut one = CpuSet::new();
        one.set(first.unwrap()).unwrap();

        keep(child.id(), &one).unwrap();

        assert_eq!(of(child.id()).unwrap(), one);
        drop(child.stdin.take());
        child.wait().unwrap();
        keep(child.id(), &one).unwrap();
    }
}
