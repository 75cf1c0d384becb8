//! The documents name what the code has: fields, counters, flags, reasons, and the dashboard and the
//! alerts ask for what is there.

use clap::CommandFactory;
use proxy_agent::cli::Cli;
use proxy_agent::model::{NotCaptured, PassReason, Problem, Severity};
use proxy_agent::status::*;
use proxy_ebpf::Stat;
use serde_json::Value;

const STATUS: &str = include_str!("../../docs/status.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");

fn assert_named<'a>(document: &str, names: impl IntoIterator<Item = &'a str>) {
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| !document.contains(&format!("`{name}")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new(), "are not in the document");
}

/// Names of all fields in a value, however deep.
fn fields(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                names.push(name.clone());
                fields(value, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_field_of_the_status_is_documented() {
    let status = Status {
        overview: Overview {
            sources: vec![SourceStatus::default()],
            ..Overview::default()
        },
        pods: vec![PodStatus::default()],
        services: vec![ServiceStatus::default()],
        routes: vec![RouteStatus::default()],
        endpoints: vec![EndpointStatus::default()],
        bpf: BpfStatus {
            programs: vec![ProgramStatus::default()],
            maps: vec![MapStatus::default()],
            counters: vec![CounterStatus::default()],
            flows_swept_total: 0,
            acceleration: AccelerationStatus {
                self_test: vec![SelfTestStatus::default()],
                ..AccelerationStatus::default()
            },
        },
        problems: vec![Problem {
            severity: Severity::Error,
            place: None,
            object: None,
            field: String::new(),
            reason: String::new(),
        }],
        unknown_kinds: Vec::new(),
    };
    let explanation = Explanation {
        clusters: vec![ExplainedCluster::default()],
        ..Explanation::default()
    };
    let mut names = Vec::new();
    fields(&serde_json::to_value(status).unwrap(), &mut names);
    fields(&serde_json::to_value(explanation).unwrap(), &mut names);
    assert!(names.len() > 60);
    assert_named(STATUS, names.iter().map(String::as_str));
}

#[test]
fn every_counter_of_the_hooks_is_documented() {
    assert_named(STATUS, Stat::ALL.iter().map(|stat| stat.name()));
}

#[test]
fn every_reason_to_leave_a_pod_or_a_service_alone_is_documented() {
    use NotCaptured::*;
    let pods = [
        NotEnabled,
        Disabled,
        HostNetwork,
        Sidecar,
        Completed,
        SystemNamespace,
    ];
    assert_named(STATUS, pods.map(NotCaptured::name));
    use PassReason::*;
    let services = [
        Dns,
        ApiServer,
        NotTcp,
        Headless,
        ExternalName,
        IpModeProxy,
        OtherProxy,
    ];
    assert_named(STATUS, services.map(PassReason::name));
}

#[test]
fn every_flag_is_documented() {
    let cli = Cli::command();
    for verb in cli.get_subcommands() {
        let arguments = verb.get_arguments().filter(|arg| !arg.is_hide_set());
        let flags: Vec<_> = arguments
            .filter_map(|arg| arg.get_long())
            .filter(|flag| !["help", "output", "header", "from"].contains(flag))
            .map(|flag| format!("--{flag}"))
            .collect();
        assert_named(CONFIGURATION, flags.iter().map(String::as_str));
        assert!(CONFIGURATION.contains(&format!("| `{}", verb.get_name())));
    }
}

/// The reasons are private to the data path and the compiler, so their sources are read.
#[test]
fn every_reason_of_a_local_reply_is_documented() {
    let replies = include_str!("../src/proxy/reply.rs").lines();
    let named = replies.filter_map(|line| line.trim().strip_prefix("Self::")?.split_once("=> \""));
    let rules = include_str!("../src/compile/attach.rs").lines();
    let constants = rules.filter_map(|line| line.split_once(": &str = \""));
    let texts = named.chain(constants).map(|(_, text)| text);
    let names: Vec<_> = texts
        .filter_map(|text| text.split('"').next())
        .filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase()))
        .collect();
    assert!(names.len() >= 13, "{names:?}");
    assert_named(include_str!("../../docs/reasons.md"), names);
}

/// The words of `text` that begin like a metric.
fn metric_names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("proxy_agent_"))
}

/// The page of metrics is compared with the file that stands for it here.
#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_exist() {
    let page = include_str!("../src/metrics/exposition/golden.txt");
    let exists = |name: &str| metric_names(page).any(|known| known == name);
    let dashboard = include_str!("../../deploy/helm/proxy-agent/dashboards/proxy-agent.json");
    let document = include_str!("../../docs/metrics.md");
    let (_, alerts) = document.split_once("## Alerts").unwrap();
    let asked: Vec<_> = metric_names(dashboard)
        .chain(metric_names(alerts))
        .collect();
    assert!(asked.len() > 25, "{asked:?}");
    let missing: Vec<_> = asked.into_iter().filter(|name| !exists(name)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "are not on the page");
    assert!(!exists("proxy_agent_requests_per_second_total"));
}
