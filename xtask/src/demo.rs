//! `cargo xtask demo`: a small node, captured traffic on it, and what the agent says of it.
//!
//! The node is made of network namespaces and removed in the end; the agent runs on
//! `examples/demo` as it stands, with Pods that stand for what a cluster would have. With
//! `--cluster` the node is a real one.

mod cluster;

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use proxy_e2e::{Agent, Load, Node, Pod, Report, until};

use crate::e2e::missing_privilege;
use crate::workspace::{cargo, run as run_command, target};
use crate::{build_ebpf, setup};

const SHOP: &str = "10.111.0.10:80";
const COUNTER: &str = "10.111.0.12:80";

/// `cargo xtask demo`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// On a real Kubernetes of two nodes, installed by the chart.
    #[arg(long)]
    cluster: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(missing) = missing_privilege() {
        bail!("the demo makes network namespaces and loads programs: this machine lacks {missing}");
    }
    setup::run(&setup::Args::default())?;
    if args.cluster {
        let shown = cluster::show();
        println!("\nThe cluster is removed.");
        return shown;
    }
    build_ebpf::build()?;
    println!("demo: building the agent (a minute or two the first time)");
    run_command(cargo().args(["build", "--quiet", "-p", "proxy-agent", "-p", "proxy-e2e"]))?;
    let result = show();
    println!("\nEverything that the demo made is removed.");
    result
}

fn show() -> Result<()> {
    let mut stage = Stage::set()?;
    stage.routes()?;
    stage.balances()?;
    stage.leaves_others_alone()?;
    stage.explains()?;
    stage.shows_status()?;
    stage.dies_well()
}

fn heading(text: &str) {
    println!("\n── {text}");
}

/// The node of the demo.
struct Stage {
    agent: Agent,
    client: Pod,
    outsider: Pod,
    _servers: Vec<Pod>,
    node: Node,
}

impl Stage {
    fn set() -> Result<Self> {
        heading("A node: pods are network namespaces on a bridge, nftables stands for kube-proxy");
        let node = Node::new()?;
        let mut servers = Vec::new();
        for (name, app, version) in SERVERS {
            let pod = node.pod(name).namespace("demo").label("app", app);
            let pod = pod.label("version", version).start()?;
            pod.serve_echo(8080)?;
            println!(
                "   pod demo/{name:<10} {:<12} serves app={app} version={version}",
                pod.ip()
            );
            servers.push(pod);
        }
        let client = node.pod("client").namespace("demo").start()?;
        println!(
            "   pod demo/client     {:<12} its namespace asks for capture",
            client.ip()
        );
        let outsider = node.pod("outsider").start()?;
        println!(
            "   pod default/outsider {:<11} nobody asks for its capture",
            outsider.ip()
        );
        for (service, app, version) in [(SHOP, "shop", "v1"), (COUNTER, "counter", "v1")] {
            let chosen = SERVERS.iter().zip(&servers);
            let chosen = chosen.filter(|((_, a, v), _)| *a == app && *v == version);
            node.dnat(service.parse()?, chosen.map(|(_, pod)| pod), 8080)?;
        }

        heading("The agent starts: proxy-agent run --source file:examples/demo …");
        for file in ["namespace.yaml", "services.yaml", "route.yaml"] {
            node.config().copy(&format!("examples/demo/{file}"))?;
        }
        let agent = proxy_e2e::AgentOptions::new(&node)
            .binary(&target("debug/proxy-agent"))
            .start()?;
        agent.wait_captured([&client])?;
        until("the endpoints are there", || {
            let services = agent.status()?["services"].to_string();
            Ok(!services.contains("\"endpoints\":0"))
        })?;
        println!("   ready; demo/client is captured, nothing in it was changed");
        Ok(Self {
            agent,
            client,
            outsider,
            _servers: servers,
            node,
        })
    }

    fn routes(&self) -> Result<()> {
        heading("demo/client sends 1,000 requests to http://shop (10.111.0.10): 90 : 10 by weight");
        let shop = Load::new(&format!("http://{SHOP}/"))
            .requests(1_000)
            .connections(4);
        print_counts(&self.client.load(&shop)?)?;

        heading("… and 100 with the header x-tester: yes: always the next version");
        let tester = shop.clone().requests(100).header("x-tester: yes");
        print_counts(&self.client.load(&tester)?)?;

        heading("… and one for /old/a: redirected by the route");
        let url = format!("http://{SHOP}/old/a");
        let format = "   %{http_code}, location: %{redirect_url}\n";
        let arguments = ["--output", "/dev/null", "--write-out", format, &url];
        print!("{}", self.client.curl(&arguments)?.success()?);
        Ok(())
    }

    fn balances(&self) -> Result<()> {
        heading("300 requests to http://counter (10.111.0.12), on ONE connection: in turn");
        let counter = Load::new(&format!("http://{COUNTER}/")).requests(300);
        let report = self.client.load(&counter)?;
        print_counts(&report)?;
        let peers: Vec<&str> = report.by_peer.keys().map(String::as_str).collect();
        println!(
            "   the servers saw the client's own address: {}",
            peers.join(", ")
        );
        println!(
            "   connections by kube-proxy's rule: {}",
            self.ordinary(COUNTER)?
        );
        Ok(())
    }

    fn leaves_others_alone(&self) -> Result<()> {
        heading("default/outsider is not captured: its 30 requests take the ordinary way");
        let load = Load::new(&format!("http://{COUNTER}/"))
            .requests(30)
            .fresh();
        print_counts(&self.outsider.load(&load)?)?;
        println!(
            "   connections by kube-proxy's rule: {}",
            self.ordinary(COUNTER)?
        );
        Ok(())
    }

    fn explains(&self) -> Result<()> {
        let url = format!("http://{SHOP}/basket");
        heading(&format!(
            "proxy-agent explain --from demo/client -H 'x-tester: yes' GET {url}"
        ));
        let arguments = [
            "explain",
            "--from",
            "demo/client",
            "-H",
            "x-tester: yes",
            "GET",
            url.as_str(),
        ];
        self.print_verb(&arguments)
    }

    fn shows_status(&self) -> Result<()> {
        for view in [&[][..], &["pods"], &["services"], &["bpf"]] {
            heading(&format!("proxy-agent status {}", view.join(" ")));
            self.print_verb(&[&["status"], view].concat())?;
        }
        Ok(())
    }

    fn dies_well(&mut self) -> Result<()> {
        heading("kill -9: the programs go with the agent, new connections take the ordinary way");
        self.agent.process().kill()?;
        let before = self.ordinary(COUNTER)?;
        let load = Load::new(&format!("http://{COUNTER}/"))
            .requests(30)
            .fresh();
        print_counts(&self.client.load(&load)?)?;
        println!(
            "   connections by kube-proxy's rule: {} more",
            self.ordinary(COUNTER)? - before
        );
        Ok(())
    }

    fn print_verb(&self, arguments: &[&str]) -> Result<()> {
        let output = self.agent.verb(arguments)?.success()?;
        for line in output.lines() {
            println!("   {line}");
        }
        Ok(())
    }

    fn ordinary(&self, service: &str) -> Result<u64> {
        let address: SocketAddr = service.parse().context("an address")?;
        self.node.dnat_connections(address)
    }
}

/// Name, `app` and `version` of the pods that serve.
const SERVERS: &[(&str, &str, &str)] = &[
    ("shop-a", "shop", "v1"),
    ("shop-b", "shop", "v1"),
    ("shop-next", "shop", "v2"),
    ("counter-a", "counter", "v1"),
    ("counter-b", "counter", "v1"),
    ("counter-c", "counter", "v1"),
];

/// Shows who answered; a request that failed ends the demo.
fn print_counts(report: &Report) -> Result<()> {
    for (endpoint, count) in &report.by_endpoint {
        let share = usize::try_from(count * 40 / report.answered.max(1)).unwrap_or_default();
        println!("   {endpoint:<10} {count:>5} {}", "▇".repeat(share));
    }
    let failed = report.failures.len();
    println!("   {} answered, {failed} failed", report.answered);
    report.flawless()
}
