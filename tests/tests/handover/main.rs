//! One agent takes the node over from another: nobody is refused, and nobody passes by.

mod faults;
mod switch;

use std::process::Command;

use anyhow::Result;
use proxy_e2e::{Load, Node, Pod, Running, Service};

const PYTHON: &str = "/usr/bin/python3";

pub(crate) fn python(fixture: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(PYTHON);
    command.arg(format!("{}/fixtures/{fixture}", env!("CARGO_MANIFEST_DIR")));
    command.args(arguments);
    command
}

/// Keep-alive, HTTP/2 and fresh connections, all of which the agent serves.
pub(crate) fn loads(client: &Pod, web: &Service) -> Result<Vec<Running>> {
    let load = Load::new(&web.url()).connections(4);
    let loads = vec![
        client.start_load(&load)?,
        client.start_load(&load.clone().http2())?,
        client.start_load(&load.fresh().pause_ms(1))?,
    ];
    more_answers(&loads)?;
    assert_eq!(web.packets()?, 0, "the control: the agent serves all of it");
    Ok(loads)
}

pub(crate) fn more_answers(loads: &[Running]) -> Result<()> {
    loads
        .iter()
        .try_for_each(|load| load.wait_answers(load.answers() + 100))
}

pub(crate) fn flawless(loads: Vec<Running>) -> Result<()> {
    loads
        .into_iter()
        .try_for_each(|load| load.stop()?.flawless())
}

/// Program ids that bpftool finds on the kubepods cgroup.
pub(crate) fn attached(node: &Node) -> Result<usize> {
    let mut bpftool = Command::new("bpftool");
    bpftool
        .args(["--json", "cgroup", "show"])
        .arg(node.kubepods());
    let output = String::from_utf8(bpftool.output()?.stdout)?;
    Ok(output.matches("\"id\"").count())
}
