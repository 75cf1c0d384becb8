//! What the kernel grants: the process's limit on open files, a thread's share of a processor.

use std::io;
use std::time::Duration;

use nix::errno::Errno;
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

/// The turn that a worker asks for: the shortest that Linux gives (`__setparam_fair` in
/// kernel/sched/syscalls.c).
const TURN: Duration = Duration::from_micros(100);

/// Has the calling thread run at once when it has something to do, also where others keep the
/// processor busy: who asks for shorter turns has the earlier deadline, and interrupts those that asked for
/// longer ones (EEVDF). It gets no more of the processor by it, and needs no privilege.
///
/// Minimum kernel version: 6.12; before, the wish changes nothing.
pub fn run_in_short_turns() {
    let asked = scheduling().and_then(|mut scheduling| {
        scheduling.sched_runtime = TURN.as_nanos().try_into().unwrap_or(u64::MAX);
        schedule(&scheduling)
    });
    if let Err(error) = asked {
        tracing::debug!(%error, "this thread waits its turn as any other");
    }
}

/// How the calling thread is scheduled (`sched_getattr(2)`).
#[expect(
    clippy::cast_possible_truncation,
    reason = "the size of a small structure"
)]
fn scheduling() -> io::Result<libc::sched_attr> {
    let mut found = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes at most as many bytes as it is told that there are, integers all.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, found.size, 0) };
    Errno::result(result)?;
    Ok(found)
}

/// Has the calling thread be scheduled so (`sched_setattr(2)`).
fn schedule(wanted: &libc::sched_attr) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as `size` says, which is the structure's own.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *wanted, 0) };
    Errno::result(result)?;
    Ok(())
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
    fn a_thread_asks_for_short_turns_and_keeps_its_priority() {
        let asked = std::thread::spawn(|| {
            let before = scheduling().unwrap();
            run_in_short_turns();
            (before, scheduling().unwrap())
        });
        let (before, after) = asked.join().unwrap();
        assert_eq!(after.sched_nice, before.sched_nice);
        assert_eq!(after.sched_policy, before.sched_policy);
        // Kernels before 6.12 tell of no turn.
        if before.sched_runtime != 0 {
            assert_eq!(u128::from(after.sched_runtime), TURN.as_nanos());
        }
        assert_eq!(
            scheduling().unwrap().sched_runtime,
            before.sched_runtime,
            "of the others"
        );
    }

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let hard = raise_nofile().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
