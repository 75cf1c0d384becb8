//! Processor time of processes, by thread.

use std::fs;

use anyhow::{Context, Result};

/// Which threads count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Threads {
    /// All of them.
    All,
    /// Those whose name begins otherwise.
    But(&'static str),
}

/// CPU time of a process so far: of its threads, user and system, as the scheduler counts it
/// (first number of `/proc/PID/task/TID/schedstat`, nanoseconds). utime and stime are sampled by
/// the tick and too coarse for a few seconds. Time of threads that have ended is not in it.
pub(crate) fn cpu_us(pid: u32, threads: Threads) -> Result<f64> {
    let path = format!("/proc/{pid}/task");
    let mut total_ns = 0.0;
    for task in fs::read_dir(&path).with_context(|| format!("read {path}"))? {
        let task = task?.path();
        if let Threads::But(beginning) = threads {
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            if name.starts_with(beginning) {
                continue;
            }
        }
        let path = task.join("schedstat");
        // A thread may have ended since the folder was read.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let on_cpu = text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
        total_ns += on_cpu.with_context(|| format!("{path:?} holds {text:?}"))?;
    }
    Ok(total_ns / 1e3)
}
