//! When pods' sandboxes began: the oldest process of a pod's cgroup.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};
use proxy_e2e::{is_of_pod, now_us};

/// Ticks of /proc/PID/stat: USER_HZ, which is 100 on every architecture of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Unix microseconds of the oldest process of each of these pods, by UID; exact to a tick, 10 ms.
pub(super) fn begun_us(uids: &[String]) -> Result<HashMap<String, f64>> {
    let mut found = HashMap::<String, f64>::new();
    let uptime = fs::read_to_string("/proc/uptime").context("read /proc/uptime")?;
    let uptime = uptime.split(' ').next().and_then(|text| text.parse().ok());
    let uptime: f64 = uptime.context("/proc/uptime is a number")?;
    let now_us = now_us() as f64;
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let of_pod = |uid: &&String| is_of_pod(&groups, uid);
        let Some(uid) = uids.iter().find(of_pod) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The 22nd field; the second, in brackets, may hold blanks.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
        let ticks = fields.and_then(|rest| rest.split_whitespace().nth(19)?.parse::<f64>().ok());
        let Some(ticks) = ticks else { continue };
        let begun_us = now_us - (uptime - ticks / TICKS_PER_SECOND) * 1e6;
        let oldest = found.entry(uid.clone()).or_insert(begun_us);
        *oldest = oldest.min(begun_us);
    }
    Ok(found)
}
