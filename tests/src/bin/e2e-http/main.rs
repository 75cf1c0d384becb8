//! HTTP for the end-to-end tests: an echo server, a load generator, a client in single steps.
//!
//! Built on hyper itself, so that what a test sees is the agent's doing and not a library's.

mod client;
mod load;
mod paths;
mod serve;
mod step;

use clap::Parser;

#[derive(Debug, Parser)]
enum Verb {
    /// Answers every request with what it saw of it.
    Serve(serve::Options),
    /// Sends requests and reports about them as JSON.
    Load(load::Options),
    /// Sends one request for every line of standard input, on one connection.
    Step(step::Options),
}

fn main() -> anyhow::Result<()> {
    match Verb::parse() {
        Verb::Serve(options) => serve::run(options),
        Verb::Load(options) => load::run(options),
        Verb::Step(options) => step::run(options),
    }
}
