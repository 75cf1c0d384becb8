//! The cgroup that holds the node's pods: where it is, and who serves it.
//!
//! Nothing is assumed about mount points: hybrid hosts mount cgroup2 elsewhere than
//! `/sys/fs/cgroup`. What the directories below the root mean is `layout`'s.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::layout;

/// How deep below the mount a kubepods root is looked for: kind's
/// `kubelet.slice/kubelet-kubepods.slice` below a container's own directory takes four.
const ROOT_DEPTH: usize = 4;

/// Why there is no root to serve.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The machine has no cgroup2 mount that the agent can see.
    #[error("no cgroup2 mount in /proc/self/mountinfo: mount one, or let the agent see the host's")]
    NoCgroup2,
    /// No kubepods cgroup on any cgroup2 mount.
    #[error("no kubepods cgroup below {}: is kubelet running? Else name it with --cgroup-root", list(.mounts))]
    NotFound {
        /// Mounts that were searched.
        mounts: Vec<PathBuf>,
    },
    /// Several at the same depth, as with several kind nodes on one machine.
    #[error("several kubepods cgroups: {}; choose one with --cgroup-root", list(.found))]
    Ambiguous {
        /// The candidates.
        found: Vec<PathBuf>,
    },
    /// `--cgroup-root` names something else.
    #[error(
        "{} is no directory of a cgroup2 mount; give --cgroup-root the directory that holds the pods' cgroups",
        .path.display()
    )]
    NotCgroup2 {
        /// As given.
        path: PathBuf,
    },
    /// The agent's own cgroup cannot be seen.
    #[error("the agent's own cgroup is not below {}: let it see the host's cgroup2", list(.mounts))]
    OwnNotFound {
        /// Mounts that were searched.
        mounts: Vec<PathBuf>,
    },
    /// Another agent serves it.
    #[error("{} is already served by {holder}: stop it first", .path.display())]
    Locked {
        /// The root.
        path: PathBuf,
        /// Process id and command line, as far as they can be seen.
        holder: String,
    },
    /// A file could not be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(", ")
}

/// Finds the cgroup that holds the node's pods, or checks the one that is `given`.
///
/// # Errors
///
/// See [`RootError`]; each says what to do.
pub fn find_root(given: Option<&Path>) -> Result<PathBuf, RootError> {
    if let Some(path) = given {
        let not_cgroup2 = || RootError::NotCgroup2 {
            path: path.to_owned(),
        };
        let magic = statfs(path)
            .map_err(|_errno| not_cgroup2())?
            .filesystem_type();
        return match path.canonicalize() {
            Ok(real) if real.is_dir() && magic == CGROUP2_SUPER_MAGIC => Ok(real),
            Ok(_) | Err(_) => Err(not_cgroup2()),
        };
    }
    let mounts = cgroup2_mounts()?;
    let roots: Vec<_> = mounts.iter().flat_map(|mount| shallowest(mount)).collect();
    match roots.as_slice() {
        [] => Err(RootError::NotFound { mounts }),
        [root] => Ok(root.clone()),
        // One cgroup seen through two mounts is still one.
        [first, rest @ ..] if rest.iter().all(|other| is_same(first, other)) => Ok(first.clone()),
        _ => Err(RootError::Ambiguous { found: roots }),
    }
}

/// Mount points of cgroup2, in mount order.
///
/// # Errors
///
/// There is none, or `/proc` is not mounted.
pub fn cgroup2_mounts() -> Result<Vec<PathBuf>, RootError> {
    let mounts = parse_mounts(&read("/proc/self/mountinfo")?);
    if mounts.is_empty() {
        return Err(RootError::NoCgroup2);
    }
    Ok(mounts)
}

/// Id of the cgroup2 directory that the agent itself is in: the number that
/// `bpf_get_current_cgroup_id` answers, which is the directory's inode number.
///
/// The path in `/proc/self/cgroup` is relative to the agent's cgroup namespace and may not be that
/// of the mount, so it is believed only if the directory lists this process; else all are searched.
///
/// # Errors
///
/// The agent's own directory is not below any cgroup2 mount that it can see.
pub fn own_id() -> Result<u64, RootError> {
    let own = parse_own(&read("/proc/self/cgroup")?).unwrap_or_default();
    let pid = std::process::id();
    let mounts = cgroup2_mounts()?;
    let direct = mounts.iter().map(|mount| mount.join(&own));
    direct
        .chain(mounts.iter().cloned())
        .find_map(|start| find_process(&start, pid))
        .ok_or(RootError::OwnNotFound { mounts })
}

/// Whether the agent itself is in a cgroup below `root`, as in a DaemonSet.
pub fn holds_this_process(root: &Path) -> bool {
    find_process(root, std::process::id()).is_some()
}

fn find_process(start: &Path, pid: u32) -> Option<u64> {
    let mut queue = VecDeque::from([start.to_owned()]);
    while let Some(dir) = queue.pop_front() {
        let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        if layout::parse_pids(&procs).any(|listed| listed == pid) {
            return Some(fs::metadata(&dir).ok()?.ino());
        }
        queue.extend(layout::subdirectories(&dir).unwrap_or_default());
    }
    None
}

/// The directory of a root, locked for as long as this value lives.
///
/// Two agents on one root would share each listener by `SO_REUSEPORT` and lose half of the
/// original destinations.
#[derive(Debug)]
pub struct RootLock {
    directory: File,
}

impl RootLock {
    /// Takes the lock (`flock(2)`, exclusive) without waiting.
    ///
    /// # Errors
    ///
    /// Another agent has it: the error names its process.
    pub fn take(root: &Path) -> Result<Self, RootError> {
        let io_error = |source| RootError::Io {
            path: root.to_owned(),
            source,
        };
        let directory = File::open(root).map_err(io_error)?;
        match directory.try_lock() {
            Ok(()) => Ok(Self { directory }),
            Err(TryLockError::Error(source)) => Err(io_error(source)),
            Err(TryLockError::WouldBlock) => Err(RootError::Locked {
                path: root.to_owned(),
                holder: holder(&directory).unwrap_or_else(|| "another process".to_owned()),
            }),
        }
    }

    /// Has the lock that another agent has on `directory`, which must be that of `root`: both have
    /// it, and it ends when neither has the directory open any more.
    ///
    /// # Errors
    ///
    /// It is another directory, or not locked.
    pub fn inherit(directory: File, root: &Path) -> Result<Self, RootError> {
        let io_error = |source| RootError::Io {
            path: root.to_owned(),
            source,
        };
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let given = directory.metadata().map(identity).map_err(io_error)?;
        let wanted = fs::metadata(root).map(identity).map_err(io_error)?;
        // flock(2) on an open file that has the lock is granted at once.
        let locked = given == wanted && directory.try_lock().is_ok();
        let other = || io_error(io::Error::other("what was handed over is no lock on it"));
        locked.then_some(Self { directory }).ok_or_else(other)
    }

    /// The open directory, to attach programs to.
    pub const fn directory(&self) -> &File {
        &self.directory
    }
}

fn holder(directory: &File) -> Option<String> {
    let metadata = directory.metadata().ok()?;
    let device = (major(metadata.dev()), minor(metadata.dev()));
    let pid = lock_holder(&read("/proc/locks").ok()?, device, metadata.ino())?;
    // The process that took the lock may have given it to another one since.
    let has_it = |entry: fs::DirEntry| {
        let open = fs::metadata(entry.path());
        open.is_ok_and(|open| (open.dev(), open.ino()) == (metadata.dev(), metadata.ino()))
    };
    let mut files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    files.any(has_it).then_some(())?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    Some(format!("pid {pid} ({})", words.join(" ")))
}

fn read(path: &str) -> Result<String, RootError> {
    fs::read_to_string(path).map_err(|source| RootError::Io {
        path: path.into(),
        source,
    })
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((identity(one), identity(other)), (Ok(a), Ok(b)) if a == b)
}

/// The kubepods directories of the least depth at which there are any.
fn shallowest(mount: &Path) -> Vec<PathBuf> {
    let mut level = vec![mount.to_owned()];
    for _depth in 0..ROOT_DEPTH {
        let next: Vec<_> = level
            .iter()
            .flat_map(|dir| layout::subdirectories(dir).unwrap_or_default())
            .collect();
        let is_root = |dir: &&PathBuf| dir.file_name().is_some_and(layout::is_root_name);
        let found: Vec<_> = next.iter().filter(is_root).cloned().collect();
        if !found.is_empty() {
            return found;
        }
        level = next;
    }
    Vec::new()
}

/// Mount points of type cgroup2 in `mountinfo` (`proc_pid_mountinfo(5)`).
fn parse_mounts(mountinfo: &str) -> Vec<PathBuf> {
    let mount_point = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        (kind.split(' ').next()? == "cgroup2").then_some(())?;
        Some(PathBuf::from(unescape(mount.split(' ').nth(4)?)))
    };
    mountinfo.lines().filter_map(mount_point).collect()
}

/// Undoes the octal escapes of space, tab, newline and backslash (`fs/proc_namespace.c`, mangle).
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .into_iter()
    .fold(field.to_owned(), |text, (code, byte)| {
        text.replace(code, byte)
    })
}

/// The cgroup2 line of `/proc/self/cgroup`, without the leading slash.
fn parse_own(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.trim_start_matches('/').to_owned())
}

/// Process that holds a flock on (device, inode), from `/proc/locks`:
/// `1: FLOCK  ADVISORY  WRITE 708 00:1b:2345 0 EOF`, device numbers in hexadecimal.
fn lock_holder(locks: &str, device: (u64, u64), inode: u64) -> Option<u32> {
    let place = format!("{:02x}:{:02x}:{inode}", device.0, device.1);
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        match fields.as_slice() {
            // A waiter has `->` as its second field and matches nothing here.
            [_, "FLOCK", _, _, pid, at, ..] if *at == place => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
24 31 0:22 / /proc rw,nosuid - proc proc rw
35 32 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:15 - cgroup cgroup rw,cpu
36 32 0:31 / /sys/fs/cgroup/unified rw,relatime shared:16 - cgroup2 cgroup2 rw,nsdelegate
37 32 0:31 /../.. /host/a\\040b rw - cgroup2 none rw
38 32 0:44 / /tmp/-\\040cgroup2 rw - tmpfs tmpfs rw
";

    #[test]
    fn cgroup2_is_found_wherever_it_is_mounted() {
        let mounts = parse_mounts(HYBRID);
        let expected = ["/sys/fs/cgroup/unified", "/host/a b"].map(PathBuf::from);
        assert_eq!(mounts, expected);
    }

    #[test]
    fn a_broken_mountinfo_yields_nothing() {
        assert!(parse_mounts("").is_empty());
        assert!(parse_mounts("36 32 0:31 - cgroup2").is_empty());
    }

    #[test]
    fn the_own_cgroup_is_the_version_2_line() {
        assert_eq!(parse_own("9:name=systemd:/\n0::/a/b\n").unwrap(), "a/b");
        assert_eq!(parse_own("0::/\n").unwrap(), "");
        assert_eq!(parse_own("3:cpu:/x\n"), None);
    }

    #[test]
    fn the_lock_holder_is_found_by_device_and_inode() {
        let locks = "\
1: FLOCK  ADVISORY  WRITE 14820 fe:00:5408428 0 EOF
2: POSIX  ADVISORY  WRITE 1 00:1b:77 0 EOF
3: FLOCK  ADVISORY  WRITE 42 00:1b:77 0 EOF
3: -> FLOCK  ADVISORY  WRITE 43 00:1b:77 0 EOF
";
        assert_eq!(lock_holder(locks, (0, 0x1b), 77), Some(42));
        assert_eq!(lock_holder(locks, (0, 0x1c), 77), None);
        assert_eq!(lock_holder(locks, (0xfe, 0), 5_408_428), Some(14820));
    }

    #[test]
    fn a_root_that_is_not_on_cgroup2_is_refused() {
        for path in ["/proc", "/does/not/exist"] {
            let error = find_root(Some(Path::new(path))).unwrap_err();
            assert!(matches!(error, RootError::NotCgroup2 { .. }), "{error}");
        }
    }

    #[test]
    fn the_roots_nearest_to_the_mount_are_found_at_any_depth_up_to_the_limit() {
        let mount = std::env::temp_dir().join(format!("roots-{}", std::process::id()));
        let make = |path: &str| fs::create_dir_all(mount.join(path)).unwrap();
        make("a/b/c/d/kubepods");
        let too_deep = shallowest(&mount);
        make("docker/1/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice");
        make("docker/2/kubelet.slice/kubelet-kubepods.slice");
        let kind = shallowest(&mount);
        make("kubepods.slice/kubepods-besteffort.slice");
        let systemd = shallowest(&mount);
        fs::remove_dir_all(&mount).unwrap();

        assert!(too_deep.is_empty());
        let nodes = [1, 2].map(|node| {
            mount.join(format!(
                "docker/{node}/kubelet.slice/kubelet-kubepods.slice"
            ))
        });
        assert_eq!(kind, nodes);
        assert_eq!(systemd, [mount.join("kubepods.slice")]);
    }

    #[test]
    fn the_second_lock_on_a_directory_names_the_first_holder() {
        let dir = std::env::temp_dir().join(format!("root-lock-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let first = RootLock::take(&dir).unwrap();
        let error = RootLock::take(&dir).unwrap_err();
        drop(first);
        let again = RootLock::take(&dir);
        fs::remove_dir(&dir).unwrap();
        assert!(
            error
                .to_string()
                .contains(&format!("pid {}", std::process::id())),
            "{error}"
        );
        assert!(again.is_ok());
    }
}
