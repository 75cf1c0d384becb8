//! Raw TCP for the end-to-end tests: protocols that are no HTTP, and ends of connections.

mod serve;
mod talk;

use clap::Parser;

#[derive(Debug, Parser)]
enum Verb {
    /// Serves one of several small protocols.
    Serve(serve::Options),
    /// Connects, sends, reads to the end, and reports as JSON.
    Talk(talk::Options),
}

fn main() -> anyhow::Result<()> {
    match Verb::parse() {
        Verb::Serve(options) => serve::run(&options),
        Verb::Talk(options) => talk::run(&options),
    }
}
