//! What the bench runs in pods: a load at a constant rate, idle connections, a bare TCP copy, a gRPC
//! server. Everything here is to cost as little as it can beside what is measured.

mod copy;
mod get;
mod grpc;
mod hold;
mod pace;
mod watch;

use clap::Parser;

#[derive(Debug, Parser)]
enum Verb {
    /// Sends requests at a constant rate and reports latencies as JSON.
    Pace(pace::Options),
    /// Opens connections, sends one request on each, and keeps them idle until its input is closed.
    Hold(hold::Options),
    /// Sends requests until an answer holds a text; prints when that was.
    Watch(watch::Options),
    /// Copies bytes between clients and servers, and does nothing else.
    Copy(copy::Options),
    /// Answers every gRPC call with the message that came.
    Grpc(grpc::Options),
}

fn main() -> anyhow::Result<()> {
    match Verb::parse() {
        Verb::Pace(options) => pace::run(&options),
        Verb::Hold(options) => hold::run(&options),
        Verb::Watch(options) => watch::run(&options),
        Verb::Copy(options) => copy::run(&options),
        Verb::Grpc(options) => grpc::run(&options),
    }
}
