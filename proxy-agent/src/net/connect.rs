//! Upstream connections out of a pod's network namespace.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::Netns;

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No socket: files are exhausted or the address family is off in the pod. Not the endpoint's
    /// fault.
    #[error("no socket in the pod's network namespace")]
    Socket(#[source] io::Error),
    /// The pod has used up its source ports towards this address. Not the endpoint's fault.
    #[error("no source port left for {to}")]
    PortsExhausted {
        /// Where to.
        to: SocketAddr,
    },
    /// Nothing listens there: try another endpoint.
    #[error("{to} refused the connection")]
    Refused {
        /// Where to.
        to: SocketAddr,
    },
    /// No answer in time: try another endpoint.
    #[error("{to} did not answer within {limit:?}")]
    Timeout {
        /// Where to.
        to: SocketAddr,
        /// How long was waited.
        limit: Duration,
    },
    /// No way there: try another endpoint.
    #[error("{to} is unreachable")]
    Unreachable {
        /// Where to.
        to: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else: try another endpoint.
    #[error("connect to {to} failed")]
    Failed {
        /// Where to.
        to: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ConnectError {
    /// Value of the metric label `reason`: stable and low in cardinality.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Socket(_) => "socket",
            Self::PortsExhausted { .. } => "ports-exhausted",
            Self::Refused { .. } => "refused",
            Self::Timeout { .. } => "timeout",
            Self::Unreachable { .. } => "unreachable",
            Self::Failed { .. } => "failed",
        }
    }

    /// Whether the endpoint is to blame, rather than the pod or the agent.
    pub const fn blames_endpoint(&self) -> bool {
        !matches!(self, Self::Socket(_) | Self::PortsExhausted { .. })
    }

    fn from_io(to: SocketAddr, source: io::Error) -> Self {
        use io::ErrorKind;
        let kind = source.kind();
        if kind == ErrorKind::ConnectionRefused {
            Self::Refused { to }
        } else if kind == ErrorKind::AddrNotAvailable {
            Self::PortsExhausted { to }
        } else if kind == ErrorKind::HostUnreachable || kind == ErrorKind::NetworkUnreachable {
            Self::Unreachable { to, source }
        } else {
            Self::Failed { to, source }
        }
    }
}

/// Connects to `to` from inside `netns`, so that the far end sees the pod's own address.
///
/// The socket has `TCP_NODELAY`. `home` is the namespace of the calling thread. Cancel-safe: a
/// dropped future closes the socket.
///
/// # Errors
///
/// See [`ConnectError`]: each variant says whether another endpoint is worth a try.
pub async fn connect(
    netns: &Netns,
    home: &Netns,
    to: SocketAddr,
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    let socket = netns
        .tcp_socket(home, to.is_ipv6())
        .map_err(ConnectError::Socket)?;
    let socket = TcpSocket::from_std_stream(socket);
    socket.set_nodelay(true).map_err(ConnectError::Socket)?;
    match timeout(limit, socket.connect(to)).await {
        Ok(connected) => connected.map_err(|source| ConnectError::from_io(to, source)),
        Err(_elapsed) => Err(ConnectError::Timeout { to, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_listener_is_reached_without_nagle() {
        let home = Netns::current().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let stream = connect(&home, &home, to, LIMIT).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), to);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_the_endpoint_is_to_blame() {
        let home = Netns::current().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        drop(listener);
        let error = connect(&home, &home, to, LIMIT).await.unwrap_err();
        assert_eq!(error.reason(), "refused");
        assert!(error.blames_endpoint());
    }

    #[tokio::test]
    async fn a_full_accept_queue_ends_in_a_timeout() {
        let home = Netns::current().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = socket.local_addr().unwrap();
        let _listener = socket.listen(0).unwrap();
        let limit = Duration::from_millis(50);
        let mut kept = Vec::new();
        let error = loop {
            match connect(&home, &home, to, limit).await {
                Ok(stream) => kept.push(stream),
                Err(error) => break error,
            }
            assert!(kept.len() < 16, "the queue never filled");
        };
        assert_eq!(error.reason(), "timeout");
    }
}
