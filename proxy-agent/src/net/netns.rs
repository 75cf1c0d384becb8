//! A network namespace held open, and the only places where a thread changes its own.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::error;

sockopt_impl!(
    /// Cookie of the network namespace that a socket belongs to (Linux 5.14, `socket(7)`).
    NetnsCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

/// A network namespace held open: it lives at least as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: File,
    cookie: u64,
    device: u64,
    inode: u64,
}

impl Netns {
    /// Opens the namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// `/proc` is not mounted, or the kernel is older than 5.14.
    pub fn current() -> io::Result<Self> {
        Self::new(File::open("/proc/thread-self/ns/net")?, cookie_here)
    }

    /// Opens the namespaces of this process and of its ancestors, nearest first, each once.
    ///
    /// Ancestors that hide theirs (they have capabilities that the agent has not, and it lacks
    /// `CAP_SYS_PTRACE`) are left out.
    ///
    /// # Errors
    ///
    /// The own namespace cannot be opened.
    pub fn lineage() -> io::Result<Vec<Self>> {
        let mut lineage = vec![Self::current()?];
        let mut pid = std::process::id();
        while let Some(parent) = parent_of(pid) {
            pid = parent;
            let is_known = |known: &Self| known.is_of_pid(pid).unwrap_or(true);
            if lineage.iter().any(is_known) {
                continue;
            }
            lineage.extend(Self::of_pid(pid));
        }
        Ok(lineage)
    }

    /// Opens the namespace of a process, named in the PID namespace of `/proc`.
    ///
    /// Its cookie is read by a thread made for it, so the caller stays where it is.
    ///
    /// # Errors
    ///
    /// The process is gone (`ENOENT`, `ESRCH`), or the agent lacks `CAP_SYS_ADMIN` or
    /// `CAP_SYS_PTRACE`.
    pub fn of_pid(pid: u32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{pid}/ns/net"))?;
        let cookie = inside(&file, cookie_here)?;
        Self::new(file, || Ok(cookie))
    }

    fn new(file: File, cookie: impl FnOnce() -> io::Result<u64>) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            cookie: cookie()?,
            device: metadata.dev(),
            inode: metadata.ino(),
            file,
        })
    }

    /// The cookie: unique since boot, the same number that the programs see.
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Inode number on nsfs, as in `readlink /proc/PID/ns/net`; reused after the namespace is gone.
    pub const fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether a process is in this namespace now; cheaper than [`Netns::of_pid`].
    ///
    /// # Errors
    ///
    /// As [`Netns::of_pid`].
    pub fn is_of_pid(&self, pid: u32) -> io::Result<bool> {
        let metadata = std::fs::metadata(format!("/proc/{pid}/ns/net"))?;
        Ok((metadata.dev(), metadata.ino()) == (self.device, self.inode))
    }

    /// Runs `work` in this namespace, on a thread made for it, and waits for its end.
    ///
    /// # Errors
    ///
    /// The thread could not be made or could not enter, or `work` failed.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        inside(&self.file, work)
    }

    /// Makes a non-blocking, unconnected TCP socket in this namespace, from the calling thread.
    ///
    /// The thread enters, makes the socket and goes back to `home`, which must be where it is now;
    /// that costs three system calls and no thread.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `EAFNOSUPPORT`, or the agent lacks `CAP_SYS_ADMIN`. If there is no way home the
    /// process aborts: a worker that stays in a pod's namespace would make every further
    /// connection of every pod there, while a dead agent's hooks are gone and pods take the
    /// ordinary path.
    pub fn tcp_socket(&self, home: &Self, ipv6: bool) -> io::Result<TcpStream> {
        let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
        if self.is_same(home) {
            return non_blocking(domain);
        }
        setns(&self.file, CloneFlags::CLONE_NEWNET)?;
        let socket = non_blocking(domain);
        if let Err(errno) = setns(&home.file, CloneFlags::CLONE_NEWNET) {
            error!(%errno, pod_netns = self.inode, "cannot leave a pod's network namespace");
            std::process::abort();
        }
        socket
    }

    /// Whether both are the same namespace.
    pub const fn is_same(&self, other: &Self) -> bool {
        self.cookie == other.cookie
    }
}

/// `None` for the first process of the PID namespace, and for one that is gone.
fn parent_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse_parent(&status)
}

/// The `PPid:` line of `/proc/PID/status`.
fn parse_parent(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().filter(|parent| *parent != 0)
}

fn non_blocking(domain: Domain) -> io::Result<TcpStream> {
    // `Socket::new` sets close-on-exec in the same system call.
    let kind = Type::STREAM.nonblocking();
    Socket::new(domain, kind, Some(Protocol::TCP)).map(TcpStream::from)
}

fn cookie_here() -> io::Result<u64> {
    // Any socket carries it. UDP's bind to port 0 sends nothing and needs no interface to be up.
    cookie_of(&UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?)
}

/// Cookie of the namespace that a socket was made in.
pub(super) fn cookie_of(socket: &impl AsFd) -> io::Result<u64> {
    Ok(getsockopt(socket, NetnsCookie)?)
}

/// The thread ends when `work` does, so that nothing can be left in the namespace.
fn inside<T: Send>(netns: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let enter_and_work = || {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            work()
        };
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, enter_and_work)?
            .join()
            .unwrap_or_else(|_panic| Err(io::Error::other("panic in a network namespace's thread")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_namespace_is_that_of_the_own_process() {
        let here = Netns::current().unwrap();
        assert!(here.is_of_pid(std::process::id()).unwrap());
        assert_ne!(here.cookie(), 0);
        assert_ne!(here.inode(), 0);
    }

    #[test]
    fn the_lineage_begins_at_home_and_names_each_namespace_once() {
        let lineage = Netns::lineage().unwrap();
        assert!(lineage[0].is_same(&Netns::current().unwrap()));
        for (place, netns) in lineage.iter().enumerate() {
            assert!(
                !lineage[..place]
                    .iter()
                    .any(|earlier| earlier.is_same(netns))
            );
        }
    }

    #[test]
    fn the_first_process_has_no_parent() {
        assert_eq!(parse_parent("Name:\tsh\nPid:\t7\nPPid:\t3\n"), Some(3));
        assert_eq!(parse_parent("Name:\tinit\nPPid:\t0\n"), None);
        assert_eq!(parse_parent(""), None);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(Netns::of_pid(pid).is_err());
    }

    #[test]
    fn a_socket_at_home_needs_no_privilege() {
        let here = Netns::current().unwrap();
        let socket = here.tcp_socket(&here, false).unwrap();
        assert!(socket.peer_addr().is_err());
    }
}
