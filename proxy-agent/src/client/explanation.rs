//! The answer of `explain` as text, in the order in which a connection meets the stages.

use std::fmt::Write;

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
    let share = cluster.share_percent;
    let endpoints = match cluster.endpoints.len() {
        0 => "NO usable endpoint: 503 no_endpoint",
        1 => "1 endpoint",
        n => {
            return format!(
                "{}: {share} %, {}, {n} endpoints",
                cluster.name, cluster.balance
            );
        }
    };
    format!(
        "{}: {share} %, {}, {endpoints}",
        cluster.name, cluster.balance
    )
}
