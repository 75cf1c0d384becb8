//! The answer of `explain` as text, in the order in which a connection meets the stages.

use std::fmt::Write;

use super::units::count;
use crate::status::{ExplainedCluster, ExplainedEndpoint, Explanation};

/// The explanation as text.
pub(super) fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    line(&mut text, "from", &explanation.from);
    line(&mut text, "address", &explanation.address);
    line(&mut text, "verdict", &explanation.verdict);
    line(&mut text, "listener", &explanation.listener);
    line(&mut text, "path", &explanation.path);
    for near_miss in &explanation.near_misses {
        line(&mut text, "not", near_miss);
    }
    if explanation.more_misses > 0 {
        let more = format!(
            "{} more that come before",
            count(explanation.more_misses, "rule")
        );
        line(&mut text, "not", &more);
    }
    line(&mut text, "route", &explanation.route);
    for shadowed in &explanation.shadowed {
        line(&mut text, "shadowed", shadowed);
    }
    for action in &explanation.action {
        line(&mut text, "then", action);
    }
    for cluster in &explanation.clusters {
        line(&mut text, "cluster", &cluster_line(cluster));
        for action in &cluster.action {
            line(&mut text, "", &format!("  then {action}"));
        }
        for endpoint in &cluster.endpoints {
            line(&mut text, "", &format!("  {}", endpoint_line(endpoint)));
        }
    }
    text
}

/// A label and what it says, aligned; nothing for a stage that is not reached.
fn line(text: &mut String, label: &str, value: &str) {
    if !value.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{label:<10}{value}");
    }
}

fn cluster_line(cluster: &ExplainedCluster) -> String {
    let (name, balance, weight) = (&cluster.name, &cluster.balance, cluster.weight);
    let share = format!("{:.4}", cluster.share_percent);
    let share = share.trim_end_matches('0').trim_end_matches('.');
    let share = format!("{name}: {share} % (weight {weight})");
    let usable = cluster.endpoints.iter().filter(|one| one.usable).count();
    match usable {
        // An invalid reference is no cluster: its name says what is answered.
        0 if balance.is_empty() => share,
        0 => format!("{share}, {balance}, NO usable endpoint: 503, or a reset for TCP"),
        n => format!("{share}, {balance}, {}", count(n, "usable endpoint")),
    }
}

/// An endpoint with what is known of it: in brackets why it gets no requests.
fn endpoint_line(endpoint: &ExplainedEndpoint) -> String {
    let address = match &*endpoint.address {
        "" => "no address",
        address => address,
    };
    let known = [
        ("pod", &endpoint.pod),
        ("node", &endpoint.node),
        ("zone", &endpoint.zone),
    ];
    let known = known.into_iter().filter(|(_, what)| !what.is_empty());
    let mut words: Vec<String> = known.map(|(name, what)| format!("{name} {what}")).collect();
    if endpoint.weight > 1 {
        words.push(format!("weight {}", endpoint.weight));
    }
    if endpoint.in_flight > 0 {
        words.push(format!("{} in flight", endpoint.in_flight));
    }
    if endpoint.connect_failures_total > 0 {
        words.push(format!(
            "{} connects failed",
            endpoint.connect_failures_total
        ));
    }
    if !endpoint.usable {
        words.push(format!("NOT used: {}", endpoint.reason));
    }
    [&[address.to_owned()], words.as_slice()]
        .concat()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(balance: &str, usable: &[bool]) -> ExplainedCluster {
        let endpoints = usable.iter().map(|usable| ExplainedEndpoint {
            usable: *usable,
            ..ExplainedEndpoint::default()
        });
        ExplainedCluster {
            name: "shop/cart:80".to_owned(),
            weight: 1,
            share_percent: 100.0 / 3.0,
            balance: balance.to_owned(),
            endpoints: endpoints.collect(),
            ..ExplainedCluster::default()
        }
    }

    #[test]
    fn a_cluster_says_how_many_endpoints_it_has() {
        let line = cluster_line(&cluster("round-robin", &[true, false]));
        assert_eq!(
            line,
            "shop/cart:80: 33.3333 % (weight 1), round-robin, 1 usable endpoint"
        );
        let line = cluster_line(&cluster("round-robin", &[false]));
        assert!(line.contains("NO usable endpoint"), "{line}");
    }

    #[test]
    fn an_endpoint_that_gets_no_requests_says_why() {
        let mut endpoint = ExplainedEndpoint {
            address: "10.0.0.2:80".to_owned(),
            pod: "shop/cart-0".to_owned(),
            zone: "a".to_owned(),
            usable: true,
            connect_failures_total: 2,
            ..ExplainedEndpoint::default()
        };
        let line = endpoint_line(&endpoint);
        assert_eq!(
            line,
            "10.0.0.2:80, pod shop/cart-0, zone a, 2 connects failed"
        );
        endpoint.usable = false;
        endpoint.address.clear();
        endpoint.reason = "its pod has no address yet".to_owned();
        let line = endpoint_line(&endpoint);
        assert!(line.starts_with("no address, pod shop/cart-0"), "{line}");
        assert!(
            line.ends_with("NOT used: its pod has no address yet"),
            "{line}"
        );
    }

    #[test]
    fn an_invalid_reference_is_not_said_to_lack_endpoints() {
        let mut invalid = cluster("", &[]);
        invalid.name = "invalid reference: answers 500 (invalid_backend)".to_owned();
        let line = cluster_line(&invalid);
        assert_eq!(
            line,
            "invalid reference: answers 500 (invalid_backend): 33.3333 % (weight 1)"
        );
    }
}
