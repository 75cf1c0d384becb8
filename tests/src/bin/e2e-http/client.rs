//! One client connection, HTTP/1.1 or HTTP/2.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// A connection that requests can be sent on.
pub(crate) enum Connection {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    /// Does the handshake on a connected stream.
    pub(crate) async fn handshake(stream: TcpStream, http2: bool) -> hyper::Result<Self> {
        let io = TokioIo::new(stream);
        if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Ok(Self::Http2(sender))
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Ok(Self::Http1(sender))
        }
    }

    /// The same connection once more, where the protocol lets several requests share one.
    pub(crate) fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    /// Waits until it can take a request; an error means that none was sent.
    pub(crate) async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }

    /// Sends a request; [`Self::ready`] goes first.
    pub(crate) async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

/// The address that a URL names; tests use numbers, not names.
pub(crate) fn address(url: &Uri) -> Result<SocketAddr> {
    let host = url
        .host()
        .context("the URL has no host")?
        .trim_matches(['[', ']']);
    let ip = host
        .parse()
        .with_context(|| format!("{host} is no IP address"))?;
    Ok(SocketAddr::new(ip, url.port_u16().unwrap_or(80)))
}

/// A GET of the URL, in the form that the protocol wants.
pub(crate) fn get(url: &Uri, http2: bool, headers: &[String]) -> Result<Request<Empty<Bytes>>> {
    let authority = url.authority().context("the URL has no host")?;
    let mut request = Request::get(if http2 {
        url.clone()
    } else {
        url.path_and_query()
            .context("the URL has no path")?
            .as_str()
            .parse()?
    });
    let has_host = headers
        .iter()
        .any(|header| header.to_lowercase().starts_with("host:"));
    if !http2 && !has_host {
        request = request.header("host", authority.as_str());
    }
    for header in headers {
        let (name, value) = header.split_once(':').context("a header is NAME: VALUE")?;
        request = request.header(name, value.trim());
    }
    Ok(request.body(Empty::new())?)
}
