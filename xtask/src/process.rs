//! What processes cost, as the kernel tells: processor time by thread, memory, BPF maps.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

/// Which threads count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Threads {
    /// All of them.
    All,
    /// Those whose name begins otherwise.
    But(&'static str),
    /// Those whose name begins so.
    Only(&'static str),
}

impl Threads {
    fn count(self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::But(beginning) => !name.starts_with(beginning),
            Self::Only(beginning) => name.starts_with(beginning),
        }
    }
}

/// CPU time of a process so far: of its threads, user and system, as the scheduler counts it
/// (first number of `/proc/PID/task/TID/schedstat`, nanoseconds). utime and stime are sampled by
/// the tick and too coarse for a few seconds. Time of threads that have ended is not in it.
pub(crate) fn cpu_us(pid: u32, threads: Threads) -> Result<f64> {
    let path = format!("/proc/{pid}/task");
    let mut total_ns = 0.0;
    for task in fs::read_dir(&path).with_context(|| format!("read {path}"))? {
        let task = task?.path();
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        if !threads.count(&name) {
            continue;
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

/// Memory in use, KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    status_kib(pid, "VmRSS:")
}

/// Of it, what no file holds: the program's text and data are not counted, KiB.
pub(crate) fn anonymous_kib(pid: u32) -> Result<u64> {
    status_kib(pid, "RssAnon:")
}

fn status_kib(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.with_context(|| format!("no {name} in {path}"))
}

/// Memory that the kernel keeps for the BPF maps that a process has open, KiB.
pub(crate) fn bpf_maps_kib(pid: u32) -> Result<u64> {
    let (mut seen, mut bytes) = (BTreeSet::new(), 0);
    for text in descriptors(pid)? {
        if let Some((id, locked)) = field(&text, "map_id:").zip(field(&text, "memlock:"))
            && seen.insert(id)
        {
            bytes += locked;
        }
    }
    Ok(bytes / 1_024)
}

/// Ids of the BPF programs that a process has open.
pub(crate) fn bpf_programs(pid: u32) -> Result<BTreeSet<u64>> {
    let texts = descriptors(pid)?;
    let ids = texts.iter().filter_map(|text| field(text, "prog_id:"));
    Ok(ids.collect())
}

/// What `/proc/PID/fdinfo` says of each descriptor.
fn descriptors(pid: u32) -> Result<Vec<String>> {
    let path = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&path).with_context(|| format!("read {path}"))?;
    let text = |entry: std::io::Result<fs::DirEntry>| {
        // One that was closed since says nothing.
        Ok(fs::read_to_string(entry?.path()).unwrap_or_default())
    };
    entries.map(text).collect()
}

fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}
