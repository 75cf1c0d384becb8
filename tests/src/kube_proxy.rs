//! The stand-in for kube-proxy: nftables DNAT on the node, with counters that tests read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::netns::feed;

/// Where the connections of one Service address go.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) service: SocketAddr,
    pub(crate) endpoints: Vec<IpAddr>,
    pub(crate) target_port: u16,
    /// Drawn for each connection, as kube-proxy's own rules do; in turn otherwise, which a test can
    /// foretell.
    pub(crate) random: bool,
}

/// The rules of one node.
#[derive(Debug)]
pub(crate) struct KubeProxy {
    netns: String,
    rules: Mutex<BTreeMap<SocketAddr, Rule>>,
}

impl KubeProxy {
    pub(crate) fn new(netns: &str) -> Result<Self> {
        let this = Self {
            netns: netns.to_owned(),
            rules: Mutex::default(),
        };
        let mut script = String::new();
        for table in ["ip pa", "ip6 pa"] {
            writeln!(
                script,
                "table {table} {{
                    chain seen {{ type filter hook prerouting priority -300; }}
                    chain services {{ type nat hook prerouting priority -100; }}
                    chain source {{
                        type nat hook postrouting priority 100;
                        ct status dnat masquerade
                    }}
                }}"
            )?;
        }
        feed(this.nft(&["-f", "-"]), &script)?;
        Ok(this)
    }

    /// Adds or replaces the rule of a Service address. Its counters go on counting.
    pub(crate) fn set(&self, rule: Rule) -> Result<()> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.insert(rule.service, rule);
        let mut script = String::new();
        for table in ["ip pa", "ip6 pa"] {
            writeln!(
                script,
                "flush chain {table} seen\nflush chain {table} services"
            )?;
        }
        for rule in rules.values() {
            rule.write(&mut script)?;
        }
        feed(self.nft(&["-f", "-"]), &script)
    }

    /// Connections that were translated: the first packet of each passes the rule.
    pub(crate) fn connections(&self, service: SocketAddr) -> Result<u64> {
        self.counter(service, "connections")
    }

    /// Packets to the address that reached the node.
    pub(crate) fn packets(&self, service: SocketAddr) -> Result<u64> {
        self.counter(service, "packets")
    }

    fn counter(&self, service: SocketAddr, what: &str) -> Result<u64> {
        let name = counter_name(service, what);
        let output = self
            .nft(&["-j", "list", "counter", family(service), "pa", &name])
            .output()
            .context("run nft")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nft list counter {name}: {error}");
        let listing: Value = serde_json::from_slice(&output.stdout).context("nft's JSON")?;
        let counters = listing["nftables"]
            .as_array()
            .context("nft lists an array")?;
        let packets = counters
            .iter()
            .find_map(|entry| entry["counter"]["packets"].as_u64());
        packets.with_context(|| format!("nft does not list counter {name}"))
    }

    fn nft(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.netns, "nft"])
            .args(arguments);
        command
    }
}

impl Rule {
    fn write(&self, script: &mut String) -> Result<()> {
        let (family, service) = (family(self.service), self.service);
        let matches = format!(
            "{family} daddr {} tcp dport {}",
            service.ip(),
            service.port()
        );
        let [packets, connections] =
            ["packets", "connections"].map(|what| counter_name(service, what));
        writeln!(script, "add counter {family} pa {packets}")?;
        writeln!(script, "add counter {family} pa {connections}")?;
        writeln!(
            script,
            "add rule {family} pa seen {matches} counter name {packets}"
        )?;
        if self.endpoints.is_empty() {
            return Ok(());
        }
        let count = self.endpoints.len();
        let next = if self.random { "random" } else { "inc" };
        let choices = self.endpoints.iter().enumerate();
        let choices: Vec<_> = choices
            .map(|(index, ip)| format!("{index} : {ip}"))
            .collect();
        writeln!(
            script,
            "add rule {family} pa services {matches} counter name {connections} \
             dnat to numgen {next} mod {count} map {{ {} }} : {}",
            choices.join(", "),
            self.target_port,
        )?;
        Ok(())
    }
}

fn family(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn counter_name(service: SocketAddr, what: &str) -> String {
    let address = service.ip().to_string().replace(['.', ':'], "_");
    format!("s_{address}_{}_{what}", service.port())
}
