//! The load generator: so many connections, each sending one request after the other.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use http_body_util::BodyExt;
use hyper::{Response, Uri};
use proxy_e2e::echo::{ENDPOINT_HEADER, PEER_HEADER};
use proxy_e2e::{Attempt, Failure, Report, now_us};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::client::{self, Connection};

/// Arguments of `load`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// What to get.
    #[arg(long)]
    url: Uri,
    /// Requests in all; without it, until standard input is closed.
    #[arg(long)]
    requests: Option<u64>,
    /// Connections at once.
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// A connection for each request.
    #[arg(long)]
    fresh: bool,
    /// HTTP/2 by prior knowledge.
    #[arg(long)]
    http2: bool,
    /// All on one connection, HTTP/2 only.
    #[arg(long, requires = "http2")]
    share: bool,
    /// Pause after each request of a connection.
    #[arg(long, default_value_t = 0)]
    pause_ms: u64,
    /// Bound on one request, connect included.
    #[arg(long, default_value_t = 10_000)]
    timeout_ms: u64,
    /// More headers, `NAME: VALUE`.
    #[arg(long)]
    header: Vec<String>,
}

pub(crate) fn run(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = LocalSet::new().block_on(&runtime, all(options))?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    // The thread that waits for the end of standard input may still wait: it is not waited for.
    std::process::exit(0)
}

/// What the connections share.
struct Shared {
    options: Options,
    address: SocketAddr,
    left: Cell<u64>,
    stopping: Cell<bool>,
    report: RefCell<Report>,
}

async fn all(options: Options) -> Result<Report> {
    let address = client::address(&options.url)?;
    let shared = Rc::new(Shared {
        left: Cell::new(options.requests.unwrap_or(u64::MAX)),
        stopping: Cell::new(false),
        report: RefCell::default(),
        address,
        options,
    });
    if shared.options.requests.is_none() {
        let shared = Rc::clone(&shared);
        tokio::task::spawn_local(async move {
            let closed = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
            // However reading ended, there is nobody left who could stop the load otherwise.
            let _ = closed.await;
            shared.stopping.set(true);
        });
    }
    let first = shared.first().await?;
    let workers = (0..shared.options.connections).map(|_| {
        let shared = Rc::clone(&shared);
        let first = first.as_ref().and_then(Open::share);
        tokio::task::spawn_local(async move { shared.work(first).await })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    Ok(shared.report.take())
}

/// Nothing of the request was sent, the reused connection was closed before (by GOAWAY or FIN): every
/// client then takes another one.
const UNSENT: &str = "unsent";

/// A connection after an answer, or the stage that failed and how.
type Attempted = Result<Open, (&'static str, String)>;

struct Open {
    connection: Connection,
    begun_us: u64,
}

impl Open {
    fn share(&self) -> Option<Self> {
        let connection = self.connection.share()?;
        Some(Self {
            connection,
            begun_us: self.begun_us,
        })
    }
}

impl Shared {
    /// The connection that all share, if they are to.
    async fn first(&self) -> Result<Option<Open>> {
        if !self.options.share {
            return Ok(None);
        }
        let begun_us = now_us();
        match self.connect().await {
            Ok(connection) => Ok(Some(Open {
                connection,
                begun_us,
            })),
            Err((stage, error)) => bail!("{stage}: {error}"),
        }
    }

    async fn work(&self, mut kept: Option<Open>) -> Result<()> {
        while !self.stopping.get() && self.left.get() > 0 {
            self.left.set(self.left.get() - 1);
            kept = self.one(kept.take()).await?;
            let pause = self.options.pause_ms;
            if pause > 0 {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        Ok(())
    }

    /// Sends one request; returns the connection if it may carry another one.
    async fn one(&self, mut kept: Option<Open>) -> Result<Option<Open>> {
        let request_us = now_us();
        if let Some(open) = &mut kept {
            // A connection that was closed between two requests has failed nothing.
            if self.options.fresh || open.connection.ready().await.is_err() {
                kept = None;
            }
        }
        let connect_us = kept.as_ref().map_or(request_us, |open| open.begun_us);
        let limit = Duration::from_millis(self.options.timeout_ms);
        let outcome = match timeout(limit, self.attempt(kept, connect_us, request_us)).await {
            Ok(outcome) => outcome?,
            Err(elapsed) => Err(("timeout", elapsed.to_string())),
        };
        match outcome {
            Ok(open) => Ok(Some(open)),
            Err((UNSENT, _)) => Box::pin(self.one(None)).await,
            Err((stage, error)) => {
                let stage = stage.to_owned();
                let failure = Failure {
                    connect_us,
                    request_us,
                    stage,
                    error,
                };
                self.report.borrow_mut().failures.push(failure);
                Ok(None)
            }
        }
    }

    async fn attempt(
        &self,
        kept: Option<Open>,
        connect_us: u64,
        request_us: u64,
    ) -> Result<Attempted> {
        let reused = kept.is_some();
        let mut open = match kept {
            Some(open) => open,
            None => match self.connect().await {
                Ok(connection) => Open {
                    connection,
                    begun_us: connect_us,
                },
                Err(failed) => return Ok(Err(failed)),
            },
        };
        let Options {
            url, http2, header, ..
        } = &self.options;
        let request = client::get(url, *http2, header)?;
        let response = match open.connection.send(request).await {
            Ok(response) => response,
            Err(error) if reused && error.is_canceled() => return Ok(Err((UNSENT, String::new()))),
            Err(error) => return Ok(Err(("request", describe(&error)))),
        };
        let (head, body) = response.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Ok(Err(("body", describe(&error)))),
        };
        self.report.borrow_mut().body_bytes += u64::try_from(body.len())?;
        self.count(&Response::from_parts(head, ()), connect_us, request_us)?;
        Ok(Ok(open))
    }

    async fn connect(&self) -> Result<Connection, (&'static str, String)> {
        let stream = TcpStream::connect(self.address).await;
        let stream = stream.map_err(|error| ("connect", error.to_string()))?;
        let connection = Connection::handshake(stream, self.options.http2).await;
        let mut connection = connection.map_err(|error| ("handshake", describe(&error)))?;
        connection
            .ready()
            .await
            .map_err(|error| ("handshake", describe(&error)))?;
        self.report.borrow_mut().connects += 1;
        Ok(connection)
    }

    fn count(&self, response: &Response<()>, connect_us: u64, request_us: u64) -> Result<()> {
        let header = |name: &str| {
            let value = response.headers().get(name).map(|value| value.as_bytes());
            String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
        };
        let mut report = self.report.borrow_mut();
        report.answered += 1;
        report.note_latency(now_us().saturating_sub(request_us));
        *report
            .by_status
            .entry(response.status().as_u16())
            .or_default() += 1;
        *report
            .by_endpoint
            .entry(header(ENDPOINT_HEADER))
            .or_default() += 1;
        *report.by_peer.entry(header(PEER_HEADER)).or_default() += 1;
        *report
            .by_reason
            .entry(header("x-proxy-agent-reason"))
            .or_default() += 1;
        if self.options.fresh {
            let endpoint = header(ENDPOINT_HEADER);
            report.attempts.push(Attempt {
                connect_us,
                done_us: now_us(),
                endpoint,
            });
        }
        if report.answered.is_multiple_of(10) {
            io::stderr().write_all(b".")?;
        }
        Ok(())
    }
}

fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
