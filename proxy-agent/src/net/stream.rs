//! Taking a connection, and its options.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Idle time before the first probe, and between probes (kube-proxy and Go's net use 15 s).
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Takes the next connection out of a listener's queue, whatever a runtime knows of it; the stream
/// is non-blocking.
///
/// # Errors
///
/// `WouldBlock` if the queue of a non-blocking listener is empty; else as accept(2).
pub fn accept_now(listener: &impl AsFd) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, source) = SockRef::from(listener).accept()?;
    stream.set_nonblocking(true)?;
    let source = source.as_socket();
    let source = source.ok_or_else(|| io::Error::other("a connection without a source"))?;
    Ok((stream.into(), source))
}

/// Makes the close of `stream` send RST instead of FIN and drop what is unsent (`SO_LINGER` 0).
///
/// # Errors
///
/// The socket is no longer usable.
pub fn reset_on_close(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Has the kernel probe an idle connection, so that a vanished host ends it within minutes.
///
/// # Errors
///
/// The socket is no longer usable.
pub fn keep_alive(stream: &impl AsFd) -> io::Result<()> {
    let probes = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn what_is_in_the_queue_is_taken_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_stream, source) = accept_now(&listener).unwrap();
        assert_eq!(source, client.local_addr().unwrap());
        let error = accept_now(&listener).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn reset_on_close_sends_a_reset() {
        let (client, mut accepted) = pair();
        reset_on_close(&client).unwrap();
        drop(client);
        let error = accepted.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn an_ordinary_close_does_not() {
        let (client, mut accepted) = pair();
        keep_alive(&client).unwrap();
        assert!(SockRef::from(&client).keepalive().unwrap());
        drop(client);
        assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
    }
}
