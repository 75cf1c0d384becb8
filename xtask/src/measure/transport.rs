//! `cargo xtask measure transport`: what is left of a request's time when TCP is taken out of it.
//!
//! Acceleration moves bytes past TCP, from socket to socket. No way between two processes that is
//! made of sockets is much cheaper than a Unix socket: what that brings with the same programs is the
//! floor of what acceleration can. Once without a proxy, once with one on both of whose sides
//! TCP or Unix sockets are.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use proxy_e2e::{Node, Pod, until};

use crate::bench::{Spread, counts, start_haproxy};
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
    for (what, ratios) in [("no proxy", direct), ("HAProxy", proxied)] {
        let Spread { median, min, max } = Spread::of(&ratios).context("a round")?;
        println!("{what}: Unix sockets {median:.2} x TCP ({min:.2} to {max:.2})");
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
        for (name, from, to) in [
            ("tcp", &tcp_side, &address),
            ("unix", &unix(&at_proxy), &unix(&at_server)),
        ] {
            let proxy = format!(
                "frontend in\n    bind {from}\n    default_backend out\nbackend out\n    server one {to}\n"
            );
            client.keep(start_haproxy(&node, &client, name, &proxy)?);
        }
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
        let whole = counts(&output).filter(|counts| counts.failed == 0.0 && counts.per_s > 0.0);
        let whole = whole.with_context(|| format!("h2load said:\n{output}"))?;
        Ok(whole.per_s)
    }
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
    let path = scratch.join("transport.nginx.conf");
    fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(path);
    pod.keep(pod.spawn("nginx", command)?);
    Ok(())
}
