//! The echo server: HTTP/1 and HTTP/2 by prior knowledge on one port.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use proxy_e2e::echo::{Answer, ENDPOINT_HEADER, Fnv, PEER_HEADER};
use tokio::net::{TcpListener, TcpStream};

use crate::paths::{self, Body};

/// Arguments of `serve`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// What it calls itself in its answers.
    #[arg(long)]
    name: String,
    /// Port, on every address.
    #[arg(long)]
    port: u16,
    /// Prints a line for every request.
    #[arg(long)]
    log: bool,
    /// Waits so long before every answer.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
}

pub(crate) fn run(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(Arc::new(options)))
}

async fn serve(options: Arc<Options>) -> Result<()> {
    let listener = bind(options.port).await?;
    writeln!(io::stdout(), "ready")?;
    loop {
        let (stream, peer) = listener.accept().await.context("accept")?;
        stream.set_nodelay(true)?;
        let options = Arc::clone(&options);
        tokio::spawn(async move {
            // How a connection ends is the client's business.
            let _ = connection(stream, peer, options).await;
        });
    }
}

/// Every address of both families, or of IPv4 alone where the pod has no IPv6.
async fn bind(port: u16) -> Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
            .await
            .context("bind"),
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, options: Arc<Options>) -> Result<()> {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let service = service_fn(move |request| answer(request, peer, Arc::clone(&options)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().half_close(true);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    connection.await.map_err(|error| anyhow::anyhow!(error))
}

async fn answer(
    mut request: Request<Incoming>,
    peer: SocketAddr,
    options: Arc<Options>,
) -> Result<Response<Body>> {
    if options.log {
        writeln!(
            io::stdout(),
            "{} {} from {peer}",
            request.method(),
            request.uri()
        )?;
    }
    if options.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(options.delay_ms)).await;
    }
    let mut response = match paths::special(&mut request).await? {
        Some(response) => response,
        None => echo(request, peer, &options).await?,
    };
    let headers = response.headers_mut();
    headers.insert(ENDPOINT_HEADER, options.name.parse()?);
    headers.insert(PEER_HEADER, peer.ip().to_string().parse()?);
    Ok(response)
}

async fn echo(
    request: Request<Incoming>,
    peer: SocketAddr,
    options: &Options,
) -> Result<Response<Body>> {
    let (parts, mut body) = request.into_parts();
    let authority = parts.uri.authority().map(ToString::to_string).or_else(|| {
        parts
            .headers
            .get("host")
            .map(|host| String::from_utf8_lossy(host.as_bytes()).into())
    });
    let mut answer = Answer {
        endpoint: options.name.clone(),
        peer: peer.to_string(),
        method: parts.method.to_string(),
        path: parts
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        authority: authority.unwrap_or_default(),
        version: format!("{:?}", parts.version),
        headers: flatten(&parts.headers),
        ..Answer::default()
    };
    let mut hash = Fnv::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("read the body")?;
        if let Some(data) = frame.data_ref() {
            answer.body_bytes += u64::try_from(data.len())?;
            hash.update(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            answer.trailers = flatten(trailers);
        }
    }
    answer.body_hash = hash.value();
    let json = serde_json::to_vec(&answer)?;
    Ok(Response::builder()
        .header("content-type", "application/json")
        .body(paths::full(json))?)
}

fn flatten(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        flat.entry(name.to_string())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    flat
}
