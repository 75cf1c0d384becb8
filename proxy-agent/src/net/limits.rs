//! What the kernel grants: the process's limit on open files, a thread's share of a processor.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::setpriority_process;

/// Raises the soft limit on open files to the hard one and returns it.
///
/// A connection costs two files and containerd 2 starts containers with 1024.
///
/// # Errors
///
/// The kernel refused; the old limit stays and the caller may go on.
pub fn raise_nofile() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// What a thread of the control side yields to a worker by, where both want one processor: about a
/// third of its weight (`sched(7)`).
const NICE: i32 = 5;

/// Lowers the calling thread's priority: a storm of changes must not delay requests. Linux takes
/// "this process" for the thread that asks (`setpriority(2)`); threads that it starts inherit it.
pub fn yield_to_others() {
    if let Err(error) = setpriority_process(None, NICE) {
        tracing::warn!(%error, "this thread runs at the workers' priority");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn a_thread_yields_and_the_others_do_not() {
        let before = getpriority_process(None).unwrap();
        let lowered = std::thread::spawn(|| {
            yield_to_others();
            getpriority_process(None).unwrap()
        });
        assert_eq!(lowered.join().unwrap(), NICE.max(before));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let hard = raise_nofile().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
