//! Connections that wait for their next request.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Protocol, Sender, http1, http2};

/// How long a connection may lie idle, but for the time between two sweeps, by which it may be less or more; below
/// the 75 s after which nginx closes from its side.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Idle HTTP/1 connections kept per pod, endpoint and worker; one more is closed.
const MAX_IDLE: usize = 128;

/// The connections of one pod to one endpoint.
#[derive(Debug)]
pub(in crate::proxy) struct Pool {
    http1: Vec<IdleHttp1>,
    http2: Vec<SharedHttp2>,
    /// When it was last swept, or made: the time, as exact as idle connections need it.
    swept: Instant,
    /// Set while an HTTP/2 connection is being opened: others wait for it and share it.
    pub(super) opening: Option<Rc<Notify>>,
}

#[derive(Debug)]
struct IdleHttp1 {
    connection: Box<http1::Connection>,
    since: Instant,
}

#[derive(Debug)]
struct SharedHttp2 {
    connection: Rc<http2::Connection>,
    last_used: Instant,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            http1: Vec::new(),
            http2: Vec::new(),
            swept: Instant::now(),
            opening: None,
        }
    }
}

impl Pool {
    /// A connection that can take a request now.
    pub(super) fn take(&mut self, protocol: Protocol) -> Option<Sender> {
        match protocol {
            Protocol::Http1 => self.take_http1().map(Sender::Http1),
            Protocol::Http2 => self.take_http2(),
        }
    }

    /// The one that was used last: the oldest run into the idle limit and the pool shrinks. Those
    /// that the upstream has closed meanwhile are dropped on the way.
    fn take_http1(&mut self) -> Option<Box<http1::Connection>> {
        while let Some(idle) = self.http1.pop() {
            if idle.connection.is_ready() {
                return Some(idle.connection);
            }
        }
        None
    }

    fn take_http2(&mut self) -> Option<Sender> {
        let mut shared = self.http2.iter_mut();
        let shared = shared.find(|shared| {
            let connection = &shared.connection;
            connection.has_room() && !connection.is_closed()
        })?;
        shared.last_used = self.swept;
        let connection = Rc::clone(&shared.connection);
        Some(Sender::Http2(http2::Stream::of(connection)))
    }

    /// Keeps a connection for the next request, if there is room.
    pub(super) fn keep(&mut self, connection: Box<http1::Connection>) {
        if self.http1.len() < MAX_IDLE {
            let since = self.swept;
            self.http1.push(IdleHttp1 { connection, since });
        }
    }

    /// Lets others take streams of a connection.
    pub(super) fn share(&mut self, connection: Rc<http2::Connection>) {
        let last_used = self.swept;
        self.http2.push(SharedHttp2 {
            connection,
            last_used,
        });
    }

    /// Closes what lies idle too long, or is closed on the other side. Returns whether nothing is
    /// left.
    pub(in crate::proxy) fn expire(&mut self, now: Instant) -> bool {
        self.swept = now;
        let fresh = |since: Instant| now.duration_since(since) < IDLE_LIMIT;
        self.http1
            .retain(|idle| fresh(idle.since) && idle.connection.is_ready());
        self.http2.retain(|shared| {
            !shared.connection.is_closed()
                && (shared.connection.is_busy() || fresh(shared.last_used))
        });
        self.http1.is_empty() && self.http2.is_empty() && self.opening.is_none()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use crate::proxy::accelerate::Socket;

    use super::*;

    /// A connection, and its other end.
    async fn connection() -> (Box<http1::Connection>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let io = Socket {
            accelerated: None,
            stream: stream.unwrap(),
        };
        (http1::Connection::new(io), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn a_connection_idles_from_the_sweep_before_it_came_back() {
        let mut pool = Pool::default();
        let made = pool.swept;
        let (first, _first_far) = connection().await;
        let (second, _second_far) = connection().await;
        pool.keep(first);
        assert!(!pool.expire(made + IDLE_LIMIT / 2));
        pool.keep(second);
        assert!(!pool.expire(made + IDLE_LIMIT));
        assert_eq!(pool.http1.len(), 1, "the first one has idled long enough");
        assert!(pool.expire(made + IDLE_LIMIT * 3 / 2));
    }

    #[tokio::test]
    async fn a_connection_that_the_upstream_closes_goes_with_the_next_sweep() {
        let mut pool = Pool::default();
        let (connection, far) = connection().await;
        // Nothing is known of a socket before it was waited for.
        assert!(connection.is_ready());
        pool.keep(connection);
        assert!(!pool.expire(pool.swept));
        drop(far);
        let closed = async {
            while !pool.expire(pool.swept) {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(10);
        assert!(tokio::time::timeout(patience, closed).await.is_ok());
    }
}
