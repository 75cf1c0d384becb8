//! One request for each line of standard input, all on one connection; one line out for each.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::Args;
use http_body_util::BodyExt;
use hyper::Uri;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use crate::client::{self, Connection};

/// Arguments of `step`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// What to get.
    #[arg(long)]
    url: Uri,
    /// More headers, `NAME: VALUE`.
    #[arg(long)]
    header: Vec<String>,
}

pub(crate) fn run(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(steps(&options))
}

async fn steps(options: &Options) -> Result<()> {
    let stream = TcpStream::connect(client::address(&options.url)?)
        .await
        .context("connect")?;
    let mut connection = Connection::handshake(stream, false).await?;
    writeln!(io::stdout(), "ready")?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        let request = client::get(&options.url, false, &options.header)?;
        connection
            .ready()
            .await
            .context("wait for the connection")?;
        let response = connection.send(request).await.context("send")?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .context("body")?
            .to_bytes();
        let body = String::from_utf8_lossy(&body);
        writeln!(io::stdout(), "{} {}", status.as_u16(), body.trim_end())?;
    }
    Ok(())
}
