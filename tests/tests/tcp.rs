//! Opaque TCP through the agent: other protocols, half-close, resets.

use anyhow::Result;
use proxy_e2e::echo::Fnv;
use proxy_e2e::{Agent, Node, Pod, Process, Service, until};
use serde_json::{Value, json};

struct Scene {
    agent: Agent,
    client: Pod,
    service: Service,
    servers: Vec<Process>,
    _pods: Vec<Pod>,
    _node: Node,
}

impl Scene {
    /// Two servers of `e2e-tcp` behind a Service whose port has this name.
    fn new(mode: &str, port_name: &str) -> Result<Self> {
        let node = Node::new()?;
        let (mut pods, mut servers) = (Vec::new(), Vec::new());
        for name in ["tcp-0", "tcp-1"] {
            let pod = node.pod(name).start()?;
            let arguments = ["serve", "--name", name, "--port", "9000", "--mode", mode];
            servers.push(pod.start_server("e2e-tcp", &arguments)?);
            pods.push(pod);
        }
        // Without it connections to a port that is not HTTP would not go through the agent.
        let service = node.service("tcp").annotated("mode", "proxy");
        let service = service.port(port_name, 9000, 9000).to(&pods)?;
        let client = node.pod("client").captured().start()?;
        let agent = Agent::start(&node)?;
        agent.wait_captured([&client])?;
        agent.wait_endpoints(&service, 2)?;
        Ok(Self {
            agent,
            client,
            service,
            servers,
            _pods: pods,
            _node: node,
        })
    }

    fn talk(&self, arguments: &[&str]) -> Result<Value> {
        self.client.talk(self.service.address(), arguments)
    }

    fn traffic(&self) -> Result<Value> {
        Ok(self.agent.service("tcp")?["traffic"].clone())
    }
}

fn tail(report: &Value) -> &str {
    report["tail"].as_str().unwrap_or_default()
}

#[test]
fn bytes_go_both_ways_and_half_close_is_kept() -> Result<()> {
    const BYTES: usize = 2_000_000;
    let scene = Scene::new("echo", "tcp")?;

    let report = scene.talk(&["--send-bytes", &BYTES.to_string(), "--half-close"])?;

    assert_eq!(report["error"], Value::Null, "{report}");
    let own = format!(" {} {BYTES}\n", scene.client.ip());
    assert!(
        tail(&report).ends_with(&own),
        "after the client's end of stream: {report}"
    );
    let end_bytes = tail(&report)
        .rfind("END ")
        .map_or(0, |at| tail(&report).len() - at);
    assert_eq!(report["received_bytes"], json!(BYTES + end_bytes));
    let mut hash = Fnv::default();
    let block: Vec<u8> = (0..=250).cycle().take(64 * 1024).collect();
    let mut left = BYTES;
    while left > 0 {
        let size = left.min(block.len());
        hash.update(&block[..size]);
        left -= size;
    }
    hash.update(&tail(&report).as_bytes()[tail(&report).len() - end_bytes..]);
    assert_eq!(
        report["received_hash"],
        json!(hash.value()),
        "byte for byte"
    );
    assert_eq!(report["getpeername"], json!(scene.service.address()));
    assert_eq!(scene.service.packets()?, 0);
    until("the connection is counted", || {
        Ok(scene.traffic()?["tcp_connections_total"] == 1)
    })
}

#[test]
fn an_answer_after_the_clients_end_of_stream_arrives_whole() -> Result<()> {
    let scene = Scene::new("last", "tcp")?;

    let report = scene.talk(&["--send", "question", "--half-close"])?;

    assert_eq!(report["error"], Value::Null, "{report}");
    assert!(
        report["received_bytes"].as_u64() > Some(1 << 20),
        "{report}"
    );
    assert!(tail(&report).contains("END tcp-"), "{report}");
    assert_eq!(scene.service.packets()?, 0);
    Ok(())
}

#[test]
fn connections_are_balanced() -> Result<()> {
    let scene = Scene::new("greet", "tcp")?;
    let mut by_server = [0, 0];
    for _ in 0..20 {
        let report = scene.talk(&["--listen-first", "--half-close"])?;
        for (count, name) in by_server.iter_mut().zip(["HELLO tcp-0", "HELLO tcp-1"]) {
            *count += usize::from(
                report["received"]
                    .as_str()
                    .unwrap_or_default()
                    .contains(name),
            );
        }
    }
    // Ties go round in each of the two workers by itself: each may have one more of either.
    assert_eq!(by_server[0] + by_server[1], 20);
    assert!((9..=11).contains(&by_server[0]), "{by_server:?}");
    assert_eq!(scene.service.packets()?, 0);
    Ok(())
}

#[test]
fn a_server_that_speaks_first_is_heard_on_a_port_named_http() -> Result<()> {
    let scene = Scene::new("greet", "http")?;

    let report = scene.talk(&["--listen-first", "--send", "after\\n", "--half-close"])?;

    assert_eq!(report["error"], Value::Null, "{report}");
    let text = report["received"].as_str().unwrap_or_default();
    assert!(
        text.starts_with("HELLO tcp-") && text.contains("\nafter\nEND"),
        "{text}"
    );
    assert_eq!(scene.service.packets()?, 0);
    until("status tells of it", || {
        Ok(scene.traffic()?["http_turned_opaque_total"] == 1)
    })
}

#[test]
fn bytes_that_are_no_http_pass_on_a_port_named_http() -> Result<()> {
    let scene = Scene::new("echo", "http")?;

    let report = scene.talk(&["--send", "*1\\r\\n$4\\r\\nPING\\r\\n", "--half-close"])?;

    let text = report["received"].as_str().unwrap_or_default();
    assert!(text.starts_with("*1\r\n$4\r\nPING\r\n"), "{report}");
    assert_eq!(scene.service.packets()?, 0);
    until("status tells of it", || {
        Ok(scene.traffic()?["http_turned_opaque_total"] == 1)
    })
}

#[test]
fn a_servers_reset_reaches_the_client_as_a_reset() -> Result<()> {
    let scene = Scene::new("reset", "tcp")?;

    let report = scene.talk(&["--send", "go\\n"])?;

    assert_eq!(report["error"], "ConnectionReset", "{report}");
    assert_eq!(scene.service.packets()?, 0);
    Ok(())
}

#[test]
fn a_clients_reset_reaches_the_server_as_a_reset() -> Result<()> {
    let scene = Scene::new("greet", "tcp")?;

    scene.talk(&["--listen-first", "--send", "x", "--reset"])?;

    let logs = || {
        scene
            .servers
            .iter()
            .map(Process::stdout)
            .collect::<String>()
    };
    until("the server's connection ends", || {
        Ok(logs().contains("ended:"))
    })?;
    assert!(logs().contains("ended: ConnectionReset"), "{}", logs());
    // The control: a close without reset is told apart.
    scene.talk(&["--listen-first", "--half-close"])?;
    until("the second one ends", || Ok(logs().contains("ended: ok")))
}

#[test]
fn a_service_without_endpoints_refuses_fast() -> Result<()> {
    let scene = Scene::new("echo", "tcp")?;
    scene.service.set_endpoints([])?;
    scene.agent.wait_endpoints(&scene.service, 0)?;

    let report = scene.talk(&["--send", "x", "--half-close"])?;

    assert_eq!(report["received_bytes"], 0, "{report}");
    assert!(
        report["error"].is_string(),
        "a reset, not an empty answer: {report}"
    );
    Ok(())
}
