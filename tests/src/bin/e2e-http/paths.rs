//! Paths of the echo server with an answer of their own.
//!
//! | path | answer |
//! |---|---|
//! | `/status/N` | that status, no body |
//! | `/bytes/N` | N bytes, streamed without a length |
//! | `/header/N` | the header `x-long` of N bytes, no body |
//! | `/delay/MS` | a body after that time |
//! | `/trailers` | a body with the trailer `x-checksum: ok` |
//! | `/abort` | none: the connection is closed |
//! | `/cut` | a body that breaks off |
//! | any, with `Upgrade` or `CONNECT` | bytes come back as they are sent |

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, TRAILER, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, upgrade};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// Body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

const CHUNK_BYTES: usize = 64 * 1024;

/// A body that is at hand.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The answer of a path with one of its own.
pub(crate) async fn special(request: &mut Request<Incoming>) -> Result<Option<Response<Body>>> {
    let upgrades = request.headers().contains_key(UPGRADE);
    if request.method() == Method::CONNECT || upgrades {
        return tunnel(request).map(Some);
    }
    let path = request.uri().path().to_owned();
    let (name, argument) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((&path, ""));
    let response = match name.trim_start_matches('/') {
        "status" => Response::builder()
            .status(argument.parse::<u16>()?)
            .body(empty())?,
        "bytes" => Response::new(streamed(argument.parse()?, End::Clean)),
        "header" => Response::builder()
            .header("x-long", "x".repeat(argument.parse()?))
            .body(empty())?,
        "delay" => {
            tokio::time::sleep(Duration::from_millis(argument.parse()?)).await;
            Response::new(full("delayed"))
        }
        "trailers" => {
            let body = streamed(10, End::Trailers);
            Response::builder()
                .header(TRAILER, "x-checksum")
                .body(body)?
        }
        "abort" => bail!("asked to abort"),
        "cut" => Response::builder()
            .header("content-length", "100000")
            .body(streamed(1_000, End::Cut))?,
        _ => return Ok(None),
    };
    Ok(Some(response))
}

#[derive(Clone, Copy)]
enum End {
    Clean,
    Trailers,
    Cut,
}

/// A body that is made while it is sent, so that neither end needs it in memory.
fn streamed(bytes: usize, end: End) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut left = bytes;
        while left > 0 {
            let size = left.min(CHUNK_BYTES);
            left -= size;
            if sender
                .send(Ok(Frame::data(vec![b'x'; size].into())))
                .await
                .is_err()
            {
                return;
            }
        }
        let last = match end {
            End::Clean => return,
            End::Trailers => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-checksum", HeaderValue::from_static("ok"));
                Ok(Frame::trailers(trailers))
            }
            End::Cut => Err(io::Error::other("asked to break off")),
        };
        // The receiver is gone when the client is.
        let _ = sender.send(last).await;
    });
    Frames(receiver).boxed_unsync()
}

/// Frames as they come out of a channel.
struct Frames(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }
}

/// Accepts the tunnel; what comes through it goes back.
fn tunnel(request: &mut Request<Incoming>) -> Result<Response<Body>> {
    let upgraded = upgrade::on(&mut *request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
            // How a tunnel ends is the client's business.
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        }
    });
    let mut response = Response::new(empty());
    if let Some(protocol) = request.headers().get(UPGRADE) {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(UPGRADE, protocol.clone());
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    Ok(response)
}
