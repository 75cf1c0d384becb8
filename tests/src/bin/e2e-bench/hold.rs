//! Connections that have carried one request and lie idle.

use std::io::{self, Read, Write};

use anyhow::{Context, Result};
use clap::Args;
use hyper::Uri;

use crate::get::Connection;

/// Arguments of `hold`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// What each connection gets once.
    #[arg(long)]
    url: Uri,
    /// How many.
    #[arg(long)]
    connections: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut held = Vec::with_capacity(options.connections);
    for number in 0..options.connections {
        let mut connection = Connection::open(&options.url)?;
        connection
            .get()
            .with_context(|| format!("connection {number}"))?;
        held.push(connection);
    }
    writeln!(io::stdout(), "ready")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
