//! Pods whose first container connects at once, and what came of it.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, LogParams};
use proxy_e2e::{Report, until_some_within};
use serde_json::{Value, json};

use super::{NAMESPACE, sandbox};
use crate::installed::api::{POD, create, each, objects, with_client};
use crate::installed::{CLIENT_IMAGE, Installed};

/// For a batch of pods to start, or to be gone.
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(300);

/// What came of a pod's first connection.
#[derive(Clone, Debug)]
pub(super) struct First {
    /// Who answered, or the stage that failed and how.
    pub(super) answer: String,
    /// From the start of its sandbox to its connect(2), if it got that far.
    pub(super) lead_ms: Option<f64>,
    /// As its agent says, if it captured the pod.
    pub(super) enrolment_ms: Option<f64>,
}

/// Starts pods, waits for their first containers' words, and removes them.
pub(super) fn batch(
    installed: &Installed,
    numbers: Range<u32>,
    named_nodes: bool,
) -> Result<Vec<First>> {
    let url = format!("http://{}/", installed.cluster_ip(NAMESPACE, "plain")?);
    let (uids, reports) = with_client(&installed.cluster, async |client| {
        let pods = objects(&client, POD, NAMESPACE);
        let count = u64::from(numbers.end - numbers.start);
        each(count, 10, async |n| {
            let number = u64::from(numbers.start) + n;
            let mut pod = pod(number, &url);
            if named_nodes {
                let node = number % u64::from(installed.cluster.nodes()) + 1;
                pod["spec"]["nodeName"] = format!("node{node}").into();
            }
            create(&pods, pod).await
        })
        .await?;
        let uids = started(&pods, numbers.clone()).await?;
        let mut reports = HashMap::new();
        for (name, uid) in &uids {
            reports.insert(uid.clone(), said(&client, name).await?);
        }
        Ok((uids, reports))
    })?;
    let uids: Vec<String> = uids.into_values().collect();
    let begun_us = sandbox::begun_us(&uids)?;
    let enrolment_us = enrolments(installed)?;
    let firsts = uids.iter().map(|uid| {
        let report = reports.get(uid).context("a pod said nothing")?;
        let (answer, connect_us) = answer(report)?;
        let lead_us = begun_us.get(uid).map(|begun_us| connect_us - begun_us);
        Ok(First {
            answer,
            lead_ms: lead_us.map(|us| us / 1e3),
            enrolment_ms: enrolment_us.get(uid).map(|us| *us as f64 / 1e3),
        })
    });
    let firsts = firsts.collect();
    with_client(&installed.cluster, async |client| {
        gone(&objects(&client, POD, NAMESPACE)).await
    })?;
    firsts
}

fn pod(number: u64, url: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("first-{number}"), "labels": {"app": "first"}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "initContainers": [{
                "name": "first",
                "image": CLIENT_IMAGE,
                "imagePullPolicy": "Never",
                "args": ["load", "--fresh", "--requests", "1", "--url", url],
            }],
            "containers": [{
                "name": "then",
                "image": CLIENT_IMAGE,
                "imagePullPolicy": "Never",
                "args": ["serve", "--name", "then", "--port", "9999"],
            }],
        },
    })
}

/// Waits until every pod's first container has ended; their UIDs by name.
async fn started(
    pods: &Api<DynamicObject>,
    numbers: Range<u32>,
) -> Result<HashMap<String, String>> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let selected = ListParams::default().labels("app=first");
    loop {
        let list = pods.list(&selected).await.context("list pods")?;
        let runs = |pod: &&DynamicObject| {
            matches!(
                pod.data["status"]["phase"].as_str(),
                Some("Running" | "Failed")
            )
        };
        let there = list.items.iter().filter(runs).filter_map(|pod| {
            let metadata = &pod.metadata;
            metadata.name.clone().zip(metadata.uid.clone())
        });
        let there: HashMap<_, _> = there.collect();
        if there.len() == numbers.len() {
            return Ok(there);
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "{} of {} pods started",
            there.len(),
            numbers.len()
        );
        tokio::time::sleep(PAUSE).await;
    }
}

async fn said(client: &Client, name: &str) -> Result<Report> {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let of = LogParams {
        container: Some("first".to_owned()),
        ..LogParams::default()
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let log = pods.logs(name, &of).await.context("read a log")?;
        // Progress goes to standard error, and both end up here.
        if let Some(report) = log.lines().find(|line| line.starts_with('{')) {
            return serde_json::from_str(report).with_context(|| format!("{name} said {report}"));
        }
        // A container that has ended is told of before all that it said is in its log.
        ensure!(
            tokio::time::Instant::now() < deadline,
            "{name} said {log:?}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

async fn gone(pods: &Api<DynamicObject>) -> Result<()> {
    let selected = ListParams::default().labels("app=first");
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete_collection(&at_once, &selected)
        .await
        .context("delete pods")?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !pods
        .list(&selected)
        .await
        .context("list pods")?
        .items
        .is_empty()
    {
        ensure!(tokio::time::Instant::now() < deadline, "pods do not go");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Who answered, and when the connection was begun.
fn answer(report: &Report) -> Result<(String, f64)> {
    if let Some(attempt) = report.attempts.first() {
        return Ok((attempt.endpoint.clone(), attempt.connect_us as f64));
    }
    let failure = report.failures.first().context("an empty report")?;
    let answer = format!("{}: {}", failure.stage, failure.error);
    Ok((answer, failure.connect_us as f64))
}

/// Microseconds that enrolment took, by UID, as the agents say.
fn enrolments(installed: &Installed) -> Result<HashMap<String, u64>> {
    let mut all = HashMap::new();
    for agent in &installed.agents {
        let pods = agent.status("/status/pods")?;
        for pod in pods.as_array().context("pods")? {
            let (uid, took) = (pod["uid"].as_str(), pod["enrolment_us"].as_u64());
            if let Some((uid, took)) = uid.zip(took).filter(|_| pod["captured"] == true) {
                all.insert(uid.to_owned(), took);
            }
        }
    }
    Ok(all)
}

/// A process that looks like a pod's, of which no object tells: it must be passed, or refused.
pub(super) fn stranger(installed: &Installed, unknown_pods: &str) -> Result<()> {
    let agent = installed.agents.first().context("an agent")?;
    let (expected, other) = match unknown_pods {
        "refuse" => ("refused_unknown_pod", "passed_unknown_pod"),
        _ => ("passed_unknown_pod", "refused_unknown_pod"),
    };
    let before = (agent.outcome(expected)?, agent.outcome(other)?);
    let url = format!("http://{}/", installed.cluster_ip(NAMESPACE, "plain")?);
    let uid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("a random UID")?;
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", include_str!("stranger.sh"), "stranger", uid.trim()])
        .arg(&installed.client)
        .args(["load", "--requests", "1", "--url", &url]);
    let output = installed.cluster.on_node(1, shell)?.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Report = serde_json::from_slice(&output.stdout).context("its report")?;
    until_some_within(proxy_e2e::PATIENCE, "the hooks count it", || {
        Ok((agent.outcome(expected)? > before.0).then_some(()))
    })?;
    ensure!(
        agent.outcome(other)? == before.1,
        "{other} was counted, too"
    );
    let failures: Vec<_> = report
        .failures
        .iter()
        .map(|failure| &failure.error)
        .collect();
    println!("enrolment: a pod that no object tells of: {expected}, and it saw {failures:?}");
    Ok(())
}
