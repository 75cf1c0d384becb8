//! What the verbs show, compared with files beside this one; and what they say without an agent.

mod explained;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_util::sync::CancellationToken;

use self::explained::explanation;
use super::*;
use crate::admin::{Options, Server, Views};
use crate::bpf::preflight::Check;
use crate::cli::{Cli, ReportFormat, Verb};
use crate::model::{ObjectId, Place, Problem, Severity};
use crate::status::*;
use crate::validate;
use clap::Parser;

fn overview_of_a_node_in_trouble() -> Overview {
    Overview {
        version: "0.1.0".into(),
        node: "node-1".into(),
        pid: 4711,
        uptime_s: 192,
        state: "degraded".into(),
        not_ready: vec!["program connect4 is not attached to the cgroup".into()],
        cgroup_root: "/sys/fs/cgroup/kubepods.slice".into(),
        capture: "labelled".into(),
        workers: 2,
        heartbeat_age_ms: 85,
        snapshot_version: 7,
        snapshot_age_ms: 61_000,
        sources: vec![
            SourceStatus {
                name: "file:/etc/proxy-agent".into(),
                synced: true,
                objects: 12,
                last_change_ms: 61_000,
                ..SourceStatus::default()
            },
            SourceStatus {
                name: "file:/gone".into(),
                trouble: "the directory is gone; its last objects stay in force".into(),
                ..SourceStatus::default()
            },
        ],
        pods_captured: 1,
        enrolments: EnrolmentStatus::default(),
        pods_not_captured: 1,
        lease: Some(LeaseStatus {
            holder: "proxy-agent-x7k2p".into(),
            trouble: "leases is forbidden".into(),
        }),
        services_proxied: 2,
        errors: 1,
        warnings: 1,
        connections_open: 3,
        requests_total: 2_000,
    }
}

fn pods() -> Vec<PodStatus> {
    vec![
        PodStatus {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u1".into(),
            captured: true,
            listeners: vec!["127.0.0.1:15001".into(), "[::1]:15001".into()],
            netns_cookie: 5,
            cgroup: "pod1".into(),
            enrolment_us: 1_250,
            connections_total: 40,
            connections_open: 3,
            ..PodStatus::default()
        },
        PodStatus {
            uid: "u2".into(),
            reason: "not-enabled".into(),
            ..PodStatus::default()
        },
    ]
}

fn services() -> Vec<ServiceStatus> {
    let cart = ServiceStatus {
        namespace: "shop".into(),
        name: "cart".into(),
        port: 80,
        port_name: "http".into(),
        mode: "http".into(),
        addresses: vec!["10.96.0.10:80".into()],
        cluster: "shop/cart:80".into(),
        balance: "least-request".into(),
        endpoints: 3,
        traffic: TrafficStatus {
            requests_total: 2_000,
            success_total: 1_750,
            success_rate: 0.875,
            in_flight: 1,
            latency_p50_us: 850,
            latency_p90_us: 1_250,
            latency_p99_us: 34_567,
            ..TrafficStatus::default()
        },
        ..ServiceStatus::default()
    };
    let empty = ServiceStatus {
        name: "empty".into(),
        endpoints: 0,
        traffic: TrafficStatus {
            success_rate: 1.0,
            ..TrafficStatus::default()
        },
        ..cart.clone()
    };
    let dns = ServiceStatus {
        namespace: "kube-system".into(),
        name: "dns".into(),
        port: 53,
        port_name: String::new(),
        mode: "pass".into(),
        reason: "dns".into(),
        balance: String::new(),
        ..empty.clone()
    };
    vec![cart, empty, dns]
}

fn bpf() -> BpfStatus {
    let program = |name: &str, id, attached| ProgramStatus {
        name: name.into(),
        id,
        attached,
        others: vec![],
        timed_runs: 1_000,
        mean_ns: 412,
    };
    BpfStatus {
        programs: vec![
            program("connect4", 0, false),
            ProgramStatus {
                others: vec![17, 21],
                ..program("sockops", 42, true)
            },
        ],
        maps: vec![MapStatus {
            name: "PODS".into(),
            entries: 1,
            max_entries: 4_096,
            memory_bytes: 1 << 20,
        }],
        counters: vec![CounterStatus {
            name: "proxied".into(),
            value: 40,
        }],
        flows_swept_total: 2,
    }
}

fn problems_of_a_route() -> Vec<Problem> {
    let route = |severity, field: &str, reason: &str| Problem {
        severity,
        place: Some(Place {
            source: "/etc/proxy-agent/routes.yaml".into(),
            line: 3,
        }),
        object: Some(ObjectId {
            group: "gateway.networking.k8s.io".into(),
            kind: "HTTPRoute".into(),
            namespace: "shop".into(),
            name: "cart".into(),
        }),
        field: field.into(),
        reason: reason.into(),
    };
    vec![
        route(Severity::Warning, "spec.hostnames", "is ignored"),
        route(
            Severity::Error,
            "spec.rules[0].backendRefs[0]",
            "no Service shop/card",
        ),
    ]
}

fn status_of_a_node_in_trouble() -> Status {
    Status {
        overview: overview_of_a_node_in_trouble(),
        pods: pods(),
        services: services(),
        routes: vec![RouteStatus {
            parent: "shop/cart:80".into(),
            clients: "blog".into(),
            origin: "HTTPRoute blog/cart".into(),
            rules: vec!["path /a → shop/cart:80".into(), "any → 404 no_route".into()],
            shadowed: vec!["VirtualService shop/cart: HTTPRoute blog/cart decides".into()],
        }],
        endpoints: vec![EndpointStatus {
            cluster: "shop/cart:80".into(),
            address: "10.0.0.2:8080".into(),
            pod: "shop/cart-1".into(),
            node: String::new(),
            requests_total: 2_000,
            connect_failures_total: 1,
            in_flight: 1,
            direct_open: 3,
            direct_total: 40,
            direct_failures_total: 2,
            direct_connect_us: 210,
            ejected_ms: 29_001,
        }],
        bpf: bpf(),
        problems: problems_of_a_route(),
        unknown_kinds: (1..=12)
            .map(|n| format!("Job.batch shop/job-{n}"))
            .collect(),
    }
}

/// An agent that answers with the examples above, until it is dropped.
struct Agent {
    directory: PathBuf,
    shutdown: CancellationToken,
}

impl Agent {
    fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    async fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("proxy-agent-client-{}-{n}", std::process::id());
        let agent = Self {
            directory: std::env::temp_dir().join(name),
            shutdown: CancellationToken::new(),
        };
        let options = Options {
            socket: agent.socket(),
            address: "127.0.0.1:0".parse().unwrap(),
        };
        let views = Views {
            status: Box::new(status_of_a_node_in_trouble),
            explain: Box::new(|query| match &*query.pod {
                "web" => Ok(explanation()),
                other => Err(format!("no pod {other}")),
            }),
            metrics: Box::new(|| Ok(String::new())),
            ready: Box::new(Vec::new),
        };
        let server = Server::bind(options).await.unwrap();
        tokio::spawn(server.run(Arc::new(views), agent.shutdown.clone()));
        agent
    }

    async fn run(&self, line: &str) -> Result<String, Error> {
        run(line, &self.socket()).await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shutdown.cancel();
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// Runs a command line against `socket` and returns what it wrote.
async fn run(line: &str, socket: &std::path::Path) -> Result<String, Error> {
    let words = line.split('|').map(str::to_owned);
    let socket = ["--admin-socket".to_owned(), socket.display().to_string()];
    let cli = Cli::try_parse_from(
        ["proxy-agent".to_owned()]
            .into_iter()
            .chain(words)
            .chain(socket),
    );
    let mut out = Vec::new();
    match cli.unwrap().verb {
        Verb::Status(args) => status(&args, &mut out).await?,
        Verb::Explain(args) => explain(&args, &mut out).await?,
        Verb::Run(_) | Verb::Validate(_) | Verb::Check(_) => panic!("{line} asks no agent"),
    }
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn tables_look_as_they_should() {
    let agent = Agent::start().await;
    for (line, expected) in [
        ("status", include_str!("golden/overview.txt")),
        ("status|pods", include_str!("golden/pods.txt")),
        ("status|services", include_str!("golden/services.txt")),
        ("status|routes", include_str!("golden/routes.txt")),
        ("status|endpoints", include_str!("golden/endpoints.txt")),
        ("status|bpf", include_str!("golden/bpf.txt")),
        (
            "explain|--from|shop/web|GET|http://cart/b",
            include_str!("golden/explain.txt"),
        ),
    ] {
        let found = agent.run(line).await.unwrap();
        assert_eq!(found, expected, "{line} shows\n{found}");
    }
}

#[tokio::test]
async fn json_and_yaml_say_what_the_agent_said() {
    let agent = Agent::start().await;
    let json = agent.run("status|-o|json").await.unwrap();
    let found: Status = serde_json::from_str(&json).unwrap();
    assert_eq!(found, status_of_a_node_in_trouble());
    let yaml = agent.run("status|pods|-o|yaml").await.unwrap();
    assert_eq!(
        serde_yaml_ng::from_str::<Vec<PodStatus>>(&yaml).unwrap(),
        pods()
    );
}

#[tokio::test]
async fn explain_passes_on_why_the_agent_cannot_tell() {
    let agent = Agent::start().await;
    let asked = agent.run("explain|--from|shop/job|GET|http://cart/").await;
    assert_eq!(asked.unwrap_err().to_string(), "the agent says: no pod job");
}

#[tokio::test]
async fn without_an_agent_the_next_step_is_named() {
    let agent = Agent::start().await;
    let absent = agent.directory.join("absent.sock");
    let error = run("status", &absent).await.unwrap_err().to_string();
    assert!(
        error.contains("proxy-agent run") && error.contains("absent.sock"),
        "{error}"
    );

    let gone = agent.directory.join("gone.sock");
    drop(std::os::unix::net::UnixListener::bind(&gone).unwrap());
    let error = run("status", &gone).await.unwrap_err().to_string();
    assert!(
        error.contains("gone") && error.contains("start it again"),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_of_another_form_is_not_shown_as_if_it_were_right() {
    let args = r#"{"overview":{}}"#;
    let shown = show::<Status>(args, OutputFormat::Table, overview::text);
    assert!(matches!(shown, Err(Error::Form(_))));
}

#[test]
fn findings_end_with_their_numbers() {
    let mut out = Vec::new();
    let checked = validate::Report {
        objects: 7,
        not_read: [("ConfigMap".into(), 1), ("Job.batch".into(), 2)].into(),
        problems: problems_of_a_route(),
    };
    report(&checked, ReportFormat::Table, &mut out).unwrap();
    let found = String::from_utf8(out).unwrap();
    let expected = include_str!("golden/findings.txt");
    assert_eq!(found, expected, "shows\n{found}");
}

#[test]
fn checks_end_with_what_to_do_about_gaps() {
    let check = |name: &str, ok, detail: &str, remedy: &str| Check {
        name: name.into(),
        ok,
        detail: detail.into(),
        remedy: remedy.into(),
    };
    let found = [
        check("kernel", true, "6.18.0", ""),
        check(
            "btf",
            false,
            "/sys/kernel/btf/vmlinux: not there",
            "mount /sys",
        ),
    ];
    let mut out = Vec::new();
    checks(&found, ReportFormat::Table, &mut out).unwrap();
    let text = "\
CHECK   RESULT  FOUND
kernel  ok      6.18.0
btf     GAP     /sys/kernel/btf/vmlinux: not there
btf: mount /sys
1 of 2 checks failed
";
    assert_eq!(String::from_utf8(out).unwrap(), text);
}
