//! `cargo xtask measure transport`: what is left of a request's time when TCP is taken out of it.
//!
//! Acceleration moves bytes past TCP, from socket to socket. No way between two processes that is
//! made of sockets is much cheaper than a Unix socket: what that brings with the same programs is the
//! floor of what acceleration can. Once without a proxy, once with one on both of whose sides
//! TCP or Unix sockets are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use proxy_e2e::{Node, Pod, until};

use crate::e2e::missing_privilege;

/// `cargo xtask measure transport`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; each runs all four paths.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds for each path in a round.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
}

const SERVER_PORT: u16 = 8_080;
const PROXY_PORT: u16 = 15_001;

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<()> {
    if let Some(missing) = missing_privilege() {
        bail!("nothing can be measured: this machine lacks {missing}");
    }
    let rig = Rig::start()?;
    let (mut direct, mut proxied) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        for (what, paths, ratios) in [
            ("no proxy", &rig.direct, &mut direct),
            ("HAProxy", &rig.proxied, &mut proxied),
        ] {
            let tcp = rig.load(&paths.tcp, args.seconds)?;
            let unix = rig.load(&paths.unix, args.seconds)?;
            println!("transport: round {round}, {what}: TCP {tcp:.0} requests/s, Unix {unix:.0}");
            ratios.push(unix / tcp);
        }
    }
    for (what, mut ratios) in [("no proxy", direct), ("HAProxy", proxied)] {
        ratios.sort_by(f64::total_cmp);
        let (least, most) = (ratios.first(), ratios.last());
        let (least, most) = least.zip(most).context("a round")?;
        let median = ratios[ratios.len() / 2];
        println!("{what}: Unix sockets {median:.2} x TCP ({least:.2} to {most:.2})");
    }
    Ok(())
}

/// One path by both transports: arguments of h2load.
struct Paths {
    tcp: Vec<String>,
    unix: Vec<String>,
}

/// A client and a server in two pods, and proxies in the client's.
struct Rig {
    direct: Paths,
    proxied: Paths,
    client: Pod,
    _server: Pod,
    _node: Node,
}

impl Rig {
    fn start() -> Result<Self> {
        let node = Node::new()?;
        let server = node.pod("server").start()?;
        let client = node.pod("client").start()?;
        let scratch = node.scratch();
        let (at_server, at_proxy) = (scratch.join("server.sock"), scratch.join("proxy.sock"));
        keep_nginx(&server, scratch, &at_server)?;
        let address = format!("{}:{SERVER_PORT}", server.ip());
        let unix = |path: &Path| format!("unix@{}", path.display());
        let tcp_side = format!("127.0.0.1:{PROXY_PORT}");
        keep_haproxy(&client, scratch, "tcp", &tcp_side, &address)?;
        keep_haproxy(
            &client,
            scratch,
            "unix",
            &unix(&at_proxy),
            &unix(&at_server),
        )?;
        let by_unix = |path: &Path| {
            let base = format!("unix:{}", path.display());
            vec!["-B".to_owned(), base, "http://server/".to_owned()]
        };
        let rig = Self {
            direct: Paths {
                tcp: vec![format!("http://{address}/")],
                unix: by_unix(&at_server),
            },
            proxied: Paths {
                tcp: vec![format!("http://{tcp_side}/")],
                unix: by_unix(&at_proxy),
            },
            client,
            _server: server,
            _node: node,
        };
        for paths in [&rig.direct, &rig.proxied] {
            for path in [&paths.tcp, &paths.unix] {
                until("requests are answered", || Ok(rig.load(path, 1).is_ok()))?;
            }
        }
        Ok(rig)
    }

    /// Requests a second, on 32 connections, all of which were answered.
    fn load(&self, path: &[String], seconds: u32) -> Result<f64> {
        let seconds = seconds.to_string();
        let mut arguments = vec!["--h1", "-t", "2", "-c", "32", "-D", &seconds];
        arguments.extend(path.iter().map(String::as_str));
        let output = self.client.run("h2load", &arguments)?.success()?;
        rate(&output).with_context(|| format!("h2load said:\n{output}"))
    }
}

/// What h2load counted, if every request was answered.
fn rate(output: &str) -> Option<f64> {
    let line = |label: &str| output.lines().find_map(|line| line.strip_prefix(label));
    let whole = ["0 failed", "0 errored", "0 timeout"];
    let requests = line("requests: ")?;
    let whole = whole
        .iter()
        .all(|none| requests.contains(&format!(", {none}")));
    let rate = line("finished in ")?.split(", ").nth(1)?;
    let rate: f64 = rate.strip_suffix(" req/s")?.parse().ok()?;
    Some(rate).filter(|rate| whole && *rate > 0.0)
}

fn keep_nginx(pod: &Pod, scratch: &Path, socket: &Path) -> Result<()> {
    let (socket, root) = (socket.display(), scratch.display());
    let config = format!(
        "worker_processes 2; daemon off; user root; pid {root}/nginx.pid; error_log stderr warn;
        events {{ worker_connections 4096; }}
        http {{
            access_log off;
            keepalive_requests 100000000;
            server {{
                listen {SERVER_PORT} reuseport;
                listen unix:{socket};
                location / {{ return 200 'thirty-six bytes from a server, that'; }}
            }}
        }}"
    );
    let path = written(scratch, "transport.nginx.conf", &config)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(path);
    pod.keep(pod.spawn("nginx", command)?);
    Ok(())
}

fn keep_haproxy(pod: &Pod, scratch: &Path, name: &str, from: &str, to: &str) -> Result<()> {
    let config = format!(
        "global
    nbthread 2
    maxconn 8000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend in
    bind {from}
    default_backend out
backend out
    server one {to}
"
    );
    let path = written(scratch, &format!("{name}.haproxy.cfg"), &config)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(path);
    pod.keep(pod.spawn("haproxy", command)?);
    Ok(())
}

fn written(scratch: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = scratch.join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_only_if_every_request_was_answered() {
        let said = |failed: u32| {
            format!(
                "finished in 3.00s, 45210.50 req/s, 2.20MB/s\nrequests: 9 total, 9 started, 9 done, \
                 9 succeeded, {failed} failed, 0 errored, 0 timeout\n"
            )
        };
        assert_eq!(rate(&said(0)), Some(45_210.5));
        assert_eq!(rate(&said(1)), None);
        assert_eq!(rate(""), None);
    }
}
