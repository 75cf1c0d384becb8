//! The agent's listeners inside a pod's network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Netns;
use super::netns::cookie_of;

/// Ports that a pod's listener may have, in the order in which they are tried.
///
/// Istio's Envoy takes 15001 and 15006, Linkerd's proxy 4140 and 4143.
pub const CANDIDATE_PORTS: [u16; 9] = [
    15001, 15101, 15102, 15103, 15104, 15105, 15106, 15107, 15108,
];

/// Connections that wait for accept, per listener; the kernel cuts it to `net.core.somaxconn`
/// (4096 since Linux 5.4).
const BACKLOG: i32 = 4096;

/// The discard service (RFC 863): any port would do, nothing is sent there.
const DISCARD: u16 = 9;

/// The listeners of one pod, one of each family per worker, all on one port.
///
/// They are non-blocking and have `TCP_NODELAY`, which accepted sockets inherit.
#[derive(Debug)]
pub struct PodListeners {
    /// The port.
    pub port: u16,
    /// On 127.0.0.1.
    pub v4: Vec<TcpListener>,
    /// On ::1; empty if the pod has no IPv6.
    pub v6: Vec<TcpListener>,
}

impl PodListeners {
    /// Addresses that are listened on, for `status`.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let v4 = (!self.v4.is_empty()).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let v6 = (!self.v6.is_empty()).then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        [v4, v6]
            .into_iter()
            .flatten()
            .map(|ip| SocketAddr::new(ip, self.port))
            .collect()
    }
}

/// Listeners that another process bound, and the cookie of the network namespace they are in.
///
/// Their number need not be that of the workers.
///
/// # Errors
///
/// There is none, or one is something else than a listener on a loopback address, or in another
/// namespace or on another port than the first.
pub fn adopt_listeners(sockets: Vec<OwnedFd>) -> io::Result<(u64, PodListeners)> {
    let mut listeners = PodListeners {
        port: 0,
        v4: Vec::new(),
        v6: Vec::new(),
    };
    let mut cookie = 0;
    for socket in sockets {
        let socket = Socket::from(socket);
        let listener: TcpListener = socket.into();
        let (found, address) = (cookie_of(&listener)?, listener.local_addr()?);
        if listeners.port == 0 {
            (cookie, listeners.port) = (found, address.port());
        }
        let listens = SockRef::from(&listener).is_listener()?;
        let is_one = (found, address.port()) == (cookie, listeners.port);
        if !listens || !is_one || !address.ip().is_loopback() {
            return Err(io::Error::other(format!(
                "{address} is no listener of that pod"
            )));
        }
        match address {
            SocketAddr::V4(_) => listeners.v4.push(listener),
            SocketAddr::V6(_) => listeners.v6.push(listener),
        }
    }
    if listeners.port == 0 {
        return Err(io::Error::other("no listener"));
    }
    Ok((cookie, listeners))
}

/// Why a pod has no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something in the pod listens on every candidate port.
    #[error("ports {} to {} are all taken in the pod", .tried.first().unwrap_or(&0), .tried.last().unwrap_or(&0))]
    AllTaken {
        /// The ports that were tried.
        tried: Vec<u16>,
    },
    /// The namespace is being set up, and whether it will have IPv6 cannot be told: try again soon.
    #[error("the pod's loopback is down")]
    LoopbackDown,
    /// The namespace could not be entered, or a socket could not be made.
    #[error("cannot listen in the pod's network namespace")]
    Io(#[source] io::Error),
}

impl ListenError {
    /// Value of the metric label `reason` and of the reason in `status`.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::AllTaken { .. } => "ports-taken",
            Self::LoopbackDown => "loopback-down",
            Self::Io(_) => "listen-failed",
        }
    }
}

/// Binds one listener of each family per worker on the first of `ports` that is free.
///
/// Blocks for about a millisecond; enters the namespace on a thread made for it.
///
/// # Errors
///
/// See [`ListenError`]. Nothing stays bound.
pub fn bind_listeners(
    netns: &Netns,
    ports: &[u16],
    workers: usize,
) -> Result<PodListeners, ListenError> {
    let bound = netns.run(|| {
        if !loopback_is_up() {
            return Ok(Err(ListenError::LoopbackDown));
        }
        let all_taken = || ListenError::AllTaken {
            tried: ports.to_vec(),
        };
        Ok(first_free(ports, workers)?.ok_or_else(all_taken))
    });
    bound.map_err(ListenError::Io)?
}

/// Binding to 127.0.0.1 works while the loopback is down; connecting does not. UDP sends nothing.
fn loopback_is_up() -> bool {
    let connected = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((Ipv4Addr::LOCALHOST, DISCARD)));
    connected.is_ok()
}

fn first_free(ports: &[u16], workers: usize) -> io::Result<Option<PodListeners>> {
    for &port in ports {
        match bind_all(port, workers) {
            Ok(listeners) => return Ok(Some(listeners)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn bind_all(port: u16, workers: usize) -> io::Result<PodListeners> {
    let v4 = bind_group(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), workers)?;
    let v6 = match bind_v6(port, workers) {
        // The loopback gets ::1 an instant after 127.0.0.1 (notifiers of NETDEV_UP, in order).
        Err(error) if has_no_ipv6(&error) => {
            thread::sleep(Duration::from_millis(1));
            bind_v6(port, workers)
        }
        bound => bound,
    };
    let v6 = match v6 {
        Err(error) if has_no_ipv6(&error) => Vec::new(),
        bound => bound?,
    };
    Ok(PodListeners { port, v4, v6 })
}

fn bind_v6(port: u16, workers: usize) -> io::Result<Vec<TcpListener>> {
    bind_group(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port), workers)
}

/// IPv6 is compiled out (`EAFNOSUPPORT`) or ::1 is not there (`disable_ipv6`, `EADDRNOTAVAIL`).
fn has_no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn bind_group(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // A root process of the pod with SO_REUSEPORT has the agent's uid: the kernel would let both
    // share the port. A first socket that shares with nobody finds it out.
    new_socket(address)?.bind(&address.into())?;
    (0..workers)
        .map(|_worker| {
            let socket = new_socket(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // Connections of an earlier agent may still be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that was free a moment ago.
    fn free_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    }

    #[test]
    fn every_worker_gets_a_listener_on_one_port() {
        let port = free_port();
        let listeners = bind_all(port, 3).unwrap();
        assert_eq!(listeners.v4.len(), 3);
        for listener in &listeners.v4 {
            assert_eq!(listener.local_addr().unwrap().port(), port);
        }
        let v4 = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        assert_eq!(listeners.addresses().first(), Some(&v4));
    }

    #[test]
    fn a_port_that_is_taken_is_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken_port = taken.local_addr().unwrap().port();
        let free = free_port();
        let listeners = first_free(&[taken_port, free], 1).unwrap().unwrap();
        assert_eq!(listeners.port, free);
        assert!(first_free(&[taken_port], 1).unwrap().is_none());
    }

    #[test]
    fn a_port_is_never_shared_with_another_listener_that_would_share() {
        let other = bind_all(free_port(), 1).unwrap();
        assert!(first_free(&[other.port], 1).unwrap().is_none());
    }

    #[test]
    fn listeners_of_another_process_are_taken_as_they_are() {
        let bound = bind_all(free_port(), 2).unwrap();
        let (port, count) = (bound.port, bound.v4.len() + bound.v6.len());
        let sockets: Vec<OwnedFd> = bound
            .v4
            .into_iter()
            .chain(bound.v6)
            .map(Into::into)
            .collect();
        let (cookie, adopted) = adopt_listeners(sockets).unwrap();
        assert_eq!(cookie, Netns::current().unwrap().cookie());
        assert_eq!((adopted.port, adopted.v4.len()), (port, 2));
        assert_eq!(adopted.v4.len() + adopted.v6.len(), count);
    }

    #[test]
    fn what_is_no_listener_of_one_port_is_not_taken() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(
            adopt_listeners(vec![listener().into()]).is_ok(),
            "the control"
        );
        assert!(adopt_listeners(vec![]).is_err());
        let two_ports = vec![listener().into(), listener().into()];
        assert!(adopt_listeners(two_ports).is_err());
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(adopt_listeners(vec![datagrams.into()]).is_err());
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(adopt_listeners(vec![everywhere.into()]).is_err());
    }

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let listeners = bind_all(free_port(), 1).unwrap();
        let client = std::net::TcpStream::connect(("127.0.0.1", listeners.port)).unwrap();
        let listener = &listeners.v4[0];
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        drop(client);
    }
}
