//! When answers begin to come from elsewhere.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use hyper::Uri;
use proxy_e2e::now_us;

use crate::get::Connection;

/// Between two requests: short beside what is measured, long enough to leave the agent time.
const PAUSE: Duration = Duration::from_micros(300);

/// Arguments of `watch`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// What to get.
    #[arg(long)]
    url: Uri,
    /// What the awaited answer holds.
    #[arg(long)]
    text: String,
    /// A connection for each request.
    #[arg(long)]
    fresh: bool,
    /// How long to wait for it.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let begun = Instant::now();
    let mut connection = Connection::open(&options.url)?;
    connection.get()?;
    writeln!(io::stdout(), "ready")?;
    while begun.elapsed() < Duration::from_secs(options.seconds) {
        let answer = String::from_utf8_lossy(connection.get()?).contains(&options.text);
        if answer {
            writeln!(io::stdout(), "{}", now_us())?;
            return Ok(());
        }
        thread::sleep(PAUSE);
        if options.fresh {
            connection = Connection::open(&options.url)?;
        }
    }
    bail!("no answer held {:?} in {} s", options.text, options.seconds)
}
