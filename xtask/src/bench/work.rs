//! The kinds of work that are measured.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// One kind of work.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Memory before the first request.
    Idle,
    /// Memory for each connection that has carried a request and waits for the next.
    IdleConnections,
    /// Small answers on HTTP/1.1 connections that are kept.
    KeepAlive,
    /// 1 MiB answers on HTTP/1.1 connections that are kept.
    LargeBodies,
    /// A connection for each request.
    NewConnections,
    /// Small answers on kept connections, by the paths that no proxy stands in: twice a round,
    /// forwards and backwards, since they differ by less than the machine's mood.
    DirectKeepAlive,
    /// The same with a connection for each request.
    DirectNewConnections,
    /// Small answers over HTTP/2.
    Http2,
    /// Unary gRPC calls.
    Grpc,
    /// 2,000 requests a second on 16 connections: latency.
    ConstantRate,
    /// The program that sees each connect(2).
    Hook,
    /// Pods captured again after a start.
    Restart,
    /// 10,000 Services with 100,000 endpoints, and one endpoint that changes.
    Scale,
}

impl Work {
    /// What needs fresh processes: once, before any load.
    pub(super) const FIRST: &[Self] = &[Self::Idle, Self::IdleConnections];
    /// What takes turns in rounds.
    pub(super) const ROUNDS: &[Self] = &[
        Self::KeepAlive,
        Self::LargeBodies,
        Self::NewConnections,
        Self::DirectKeepAlive,
        Self::DirectNewConnections,
        Self::Http2,
        Self::Grpc,
        Self::ConstantRate,
    ];

    /// Whether its paths take a second turn in each round, in the opposite order.
    pub(super) const fn turns_back(self) -> bool {
        matches!(self, Self::DirectKeepAlive | Self::DirectNewConnections)
    }

    /// Whether each request has a connection of its own.
    pub(super) const fn is_of_new_connections(self) -> bool {
        matches!(
            self,
            Self::NewConnections | Self::DirectNewConnections | Self::Hook
        )
    }

    /// Whether it has a node of its own.
    pub(super) const fn is_apart(self) -> bool {
        matches!(self, Self::Restart | Self::Scale)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::IdleConnections => "idle connections",
            Self::KeepAlive => "keep-alive",
            Self::LargeBodies => "1 MiB bodies",
            Self::NewConnections => "new connections",
            Self::DirectKeepAlive => "keep-alive, no proxy",
            Self::DirectNewConnections => "new connections, no proxy",
            Self::Http2 => "HTTP/2",
            Self::Grpc => "gRPC",
            Self::ConstantRate => "2,000 requests/s",
            Self::Hook => "connect hook",
            Self::Restart => "restart",
            Self::Scale => "100,000 endpoints",
        })
    }
}
