//! The answer of `explain` as text, in the order in which a connection meets the stages.

use std::fmt::Write;

use super::units::count;
use crate::status::{ExplainedCluster, Explanation};

/// The explanation as text.
pub(super) fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    line(&mut text, "from", &explanation.from);
    line(&mut text, "address", &explanation.address);
    line(&mut text, "verdict", &explanation.verdict);
    line(&mut text, "listener", &explanation.listener);
    for near_miss in &explanation.near_misses {
        line(&mut text, "not", near_miss);
    }
    line(&mut text, "route", &explanation.route);
    for action in &explanation.action {
        line(&mut text, "then", action);
    }
    for cluster in &explanation.clusters {
        line(&mut text, "cluster", &cluster_line(cluster));
        for endpoint in &cluster.endpoints {
            line(&mut text, "", &format!("  {endpoint}"));
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
    let ExplainedCluster {
        name,
        share_percent: share,
        balance,
        endpoints,
    } = cluster;
    match endpoints.len() {
        // An invalid reference is no cluster: its name says what is answered.
        0 if balance.is_empty() => format!("{name}: {share} %"),
        0 => format!("{name}: {share} %, {balance}, NO usable endpoint: 503, or a reset for TCP"),
        n => format!("{name}: {share} %, {balance}, {}", count(n, "endpoint")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(balance: &str, endpoints: &[&str]) -> ExplainedCluster {
        ExplainedCluster {
            name: "shop/cart:80".to_owned(),
            share_percent: 100.0,
            balance: balance.to_owned(),
            endpoints: endpoints.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_cluster_says_how_many_endpoints_it_has() {
        let line = cluster_line(&cluster("round-robin", &["10.0.0.1:80"]));
        assert_eq!(line, "shop/cart:80: 100 %, round-robin, 1 endpoint");
        let line = cluster_line(&cluster("round-robin", &[]));
        assert!(line.contains("NO usable endpoint"), "{line}");
    }

    #[test]
    fn an_invalid_reference_is_not_said_to_lack_endpoints() {
        let mut invalid = cluster("", &[]);
        invalid.name = "invalid reference: answers 500 (invalid_backend)".to_owned();
        let line = cluster_line(&invalid);
        assert_eq!(
            line,
            "invalid reference: answers 500 (invalid_backend): 100 %"
        );
    }
}
