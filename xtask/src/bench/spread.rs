//! Connections without a mesh, spread over the servers as those of every other path are.
//!
//! Each thread of wrk knows one address. If that were one server's own, two pairs of a thread and
//! a server would come of it, which the scheduler keeps on a processor each: measured, that alone
//! makes 1.4 to 2 × the requests of paths on which every thread talks with both servers. So the
//! servers share an address besides their own, and the client's routes have each of them as a next
//! hop. The kernel chooses by a hash of the ports when a connection is made; its packets take the
//! way that they take to the server's own address (one bridge), and nothing translates them.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use proxy_e2e::Pod;

/// The address that the servers share: nobody's (RFC 5737, section 3).
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Spreads the client's connections to [`ADDRESS`] over the servers.
pub(super) fn over(servers: &[Pod], client: &Pod) -> Result<()> {
    for server in servers {
        let address = format!("addr add {ADDRESS}/32 dev lo");
        server.netns().ip(&[address])?;
    }
    // By ports too: the default, addresses alone, takes all of a client's connections one way.
    let netns = client.netns();
    netns.sysctl("net/ipv4/fib_multipath_hash_policy", "1")?;
    let hop = |server: &Pod| format!(" nexthop via {}", server.ip());
    let hops: String = servers.iter().map(hop).collect();
    netns.ip(&[format!("route add {ADDRESS}{hops}")])
}

/// Connections that were accepted in a pod so far.
pub(super) fn accepted(pod: &Pod) -> Result<u64> {
    let path = format!("/proc/{}/net/snmp", pod.sandbox_pid());
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    passive_opens(&text).with_context(|| format!("no PassiveOpens in {path}"))
}

/// The column of that name: a line of names is followed by one of numbers (proc_net(5)).
fn passive_opens(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let mut columns = names.split(' ').zip(numbers.split(' '));
    let (_, number) = columns.find(|(name, _)| *name == "PassiveOpens")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_connections_are_found_by_their_column() {
        let snmp = "Ip: Forwarding\nIp: 1\nTcp: MaxConn ActiveOpens PassiveOpens\nTcp: 200 7 12\n";
        assert_eq!(passive_opens(snmp), Some(12));
        assert_eq!(passive_opens("Tcp: MaxConn\nTcp: 200\n"), None);
    }
}
