//! What the agent needs of this machine, one named check each: the `check` verb's content.
//!
//! Effects are tried where they can be (load, attach in a cgroup of its own); versions and bits
//! are read only to say what to do about a failure.

mod trial;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::sys;

/// The answer to one question about the machine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Check {
    /// Stable name.
    pub name: String,
    /// Whether the agent can work with what was found.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty when `ok`.
    pub remedy: String,
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            ok: true,
            detail: detail.into(),
            remedy: String::new(),
        }
    }

    fn gap(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            ok: false,
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }
}

/// Oldest kernel with what the programs use: netns cookies in sockops.
const KERNEL_FLOOR: (u32, u32) = (5, 15);

/// Descriptors that a node needs at least: two for each of 8,000 connections.
const NOFILE_WANTED: u64 = 16_384;

/// Capabilities (include/uapi/linux/capability.h) and what each one is for.
const CAPABILITIES: [(&str, u32, &str); 5] = [
    ("CAP_BPF", 39, "load programs and make maps"),
    ("CAP_PERFMON", 38, "let programs read kernel structures"),
    (
        "CAP_NET_ADMIN",
        12,
        "end connections whose endpoint is gone",
    ),
    ("CAP_SYS_ADMIN", 21, "enter the pods' network namespaces"),
    (
        "CAP_SYS_PTRACE",
        19,
        "find the network namespaces of other users' processes",
    ),
];

const SYS_ADMIN: u32 = 21;

/// What bpf(2) also allows to CAP_SYS_ADMIN: BPF and PERFMON (include/linux/capability.h,
/// bpf_capable and perfmon_capable). It allows what is NET_ADMIN's too (kernel/bpf/syscall.c,
/// bpf_net_capable), but sock_diag(7) does not.
const IN_SYS_ADMIN: [u32; 2] = [39, 38];

/// Runs every check, with the object that the agent would use. Changes nothing that stays.
pub fn run(object: Option<&Path>) -> Vec<Check> {
    let mut checks = vec![kernel(), btf(), cgroup2()];
    checks.extend(capabilities());
    checks.extend([open_files(), netns_cookie()]);
    checks.extend(trial::run(object, cgroup2_mount().ok().as_deref()));
    checks
}

/// The cgroup2 mount, as the kernel says: `/sys/fs/cgroup` on most machines, a directory below it
/// on hybrid ones.
///
/// # Errors
///
/// `NotFound` if there is none, else why the mount table cannot be read.
pub fn cgroup2_mount() -> std::io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    find_cgroup2(&mounts).ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// Finds the mount in the text of mountinfo (proc_pid_mountinfo(5)): the file system type follows
/// a lone `-`, since the number of optional fields before it varies.
fn find_cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let (kind, _) = source.split_once(' ')?;
        let point = mount.split(' ').nth(4)?;
        (kind == "cgroup2").then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

fn kernel() -> Check {
    const NAME: &str = "kernel";
    let release = match fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(release) => release.trim().to_owned(),
        Err(error) => return Check::gap(NAME, error.to_string(), "mount /proc"),
    };
    if version(&release).is_some_and(|version| version >= KERNEL_FLOOR) {
        return Check::ok(NAME, release);
    }
    let (major, minor) = KERNEL_FLOOR;
    Check::gap(
        NAME,
        release,
        format!("run a kernel from {major}.{minor} on"),
    )
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn btf() -> Check {
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    match File::open(PATH) {
        Ok(_) => Check::ok("btf", PATH),
        Err(error) => Check::gap(
            "btf",
            format!("{PATH}: {error}"),
            "mount /sys, and run a kernel built with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

fn cgroup2() -> Check {
    match cgroup2_mount() {
        Ok(mount) => Check::ok("cgroup2", mount.display().to_string()),
        Err(error) => Check::gap(
            "cgroup2",
            format!("no cgroup2 mount: {error}"),
            "mount the node's cgroup2 into the agent's container (hostPath /sys/fs/cgroup)",
        ),
    }
}

fn capabilities() -> Vec<Check> {
    let effective = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| effective_capabilities(&status));
    let Some(effective) = effective else {
        let remedy = "mount /proc";
        return vec![Check::gap(
            "capabilities",
            "no CapEff in /proc/self/status",
            remedy,
        )];
    };
    CAPABILITIES
        .into_iter()
        .map(|capability| one_capability(capability, effective))
        .collect()
}

fn one_capability((name, bit, purpose): (&str, u32, &str), effective: u64) -> Check {
    if effective & (1 << bit) != 0 {
        return Check::ok(name, purpose);
    }
    if IN_SYS_ADMIN.contains(&bit) && effective & (1 << SYS_ADMIN) != 0 {
        return Check::ok(name, format!("{purpose} (CAP_SYS_ADMIN stands for it)"));
    }
    let remedy = format!("add {name} to securityContext.capabilities, or run as root");
    Check::gap(name, format!("missing: needed to {purpose}"), remedy)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// The hard limit counts: `run` raises the soft one to it.
fn open_files() -> Check {
    const NAME: &str = "open_files";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard >= NOFILE_WANTED => Check::ok(NAME, format!("hard limit {hard}")),
        Ok((_, hard)) => Check::gap(
            NAME,
            format!("hard limit {hard}"),
            format!(
                "raise RLIMIT_NOFILE to {NOFILE_WANTED} or more (LimitNOFILE= of the container runtime)"
            ),
        ),
        Err(error) => Check::gap(NAME, error.to_string(), "allow getrlimit"),
    }
}

fn netns_cookie() -> Check {
    const NAME: &str = "netns_cookie";
    let cookie = TcpListener::bind("127.0.0.1:0").and_then(sys::netns_cookie);
    match cookie {
        Ok(cookie) => Check::ok(NAME, format!("this netns is {cookie}")),
        Err(error) => Check::gap(
            NAME,
            format!("SO_NETNS_COOKIE: {error}"),
            "run a kernel from 5.15 on",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_wherever_it_is_mounted() {
        let hybrid = "30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
                      31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw\n\
                      32 30 0:28 / /sys/fs/cgroup/cpu rw shared:11 master:2 - cgroup cgroup rw,cpu";
        let found = find_cgroup2(hybrid);
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(
            find_cgroup2("30 24 0:26 / /cgroup2 rw - cgroup cgroup rw"),
            None
        );
    }

    #[test]
    fn kernel_releases_compare_by_number() {
        assert!(version("5.15.0-generic") >= Some(KERNEL_FLOOR));
        assert!(version("6.1.0-18-amd64") >= Some(KERNEL_FLOOR));
        assert!(version("5.9.16") < Some(KERNEL_FLOOR));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn sys_admin_stands_for_what_bpf_asks_and_for_nothing_else() {
        let lacking = |effective: u64| {
            let checks = CAPABILITIES.map(|capability| one_capability(capability, effective));
            let gaps = checks.into_iter().filter(|check| !check.ok);
            gaps.map(|check| check.name).collect::<Vec<_>>()
        };
        let others = ["CAP_NET_ADMIN", "CAP_SYS_PTRACE"];
        assert_eq!(lacking(1 << SYS_ADMIN), others);
        assert_eq!(lacking(1 << SYS_ADMIN | 1 << 19 | 1 << 12), [""; 0]);
        let without = 1 << 39 | 1 << 38 | 1 << 12 | 1 << 19;
        assert_eq!(lacking(without), ["CAP_SYS_ADMIN"]);
    }

    #[test]
    fn effective_capabilities_are_read() {
        let status = "CapPrm:\t0000000000000001\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective_capabilities(status), Some(0x1ff_ffff_ffff));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
