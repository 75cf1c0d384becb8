//! Where a proxy easily gets HTTP/1.1 wrong: framing, `Host`, and clients that give up.

use std::process::Command;

use anyhow::{Context, Result};
use proxy_e2e::{Agent, Load, Node, Pod, Process, Service};

const PYTHON: &str = "/usr/bin/python3";

struct Scene {
    agent: Agent,
    client: Pod,
    odd: Service,
    server: Process,
    _pod: Pod,
    _node: Node,
}

impl Scene {
    fn new() -> Result<Self> {
        let node = Node::new()?;
        let pod = node.pod("odd-0").start()?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/odd_server.py");
        let mut command = Command::new(PYTHON);
        command.args([script, "8080"]);
        let mut server = pod.spawn("odd", command)?;
        server.wait_for_output("ready")?;
        let odd = node.service("odd").to([&pod])?;
        let client = node.pod("client").captured().start()?;
        let agent = Agent::start(&node)?;
        agent.wait_captured([&client])?;
        agent.wait_endpoints(&odd, 1)?;
        Ok(Self {
            agent,
            client,
            odd,
            server,
            _pod: pod,
            _node: node,
        })
    }

    /// Sends bytes as they are and returns everything that came back.
    fn raw(&self, text: &str) -> Result<String> {
        let report = self.client.talk(self.odd.address(), &["--send", text])?;
        let received = report["received"].as_str().map(str::to_owned);
        received.context("text in the report")
    }

    fn by_the_agent(self) -> Result<()> {
        assert_eq!(self.odd.packets()?, 0);
        assert!(self.agent.counter("proxied")? > 0);
        Ok(())
    }
}

#[test]
fn a_response_with_both_framings_is_relayed_whole() -> Result<()> {
    let scene = Scene::new()?;

    let text = scene.raw("GET /both HTTP/1.1\\r\\nHost: odd\\r\\nConnection: close\\r\\n\\r\\n")?;

    assert!(text.contains("hello world"), "{text}");
    let head = text.to_lowercase();
    assert!(
        !head.contains("content-length: 5"),
        "chunked overrides it: {text}"
    );
    scene.by_the_agent()
}

#[test]
fn not_modified_may_tell_the_length_that_it_does_not_send() -> Result<()> {
    let scene = Scene::new()?;

    let text =
        scene.raw("GET /unchanged HTTP/1.1\\r\\nHost: odd\\r\\nConnection: close\\r\\n\\r\\n")?;

    assert!(text.starts_with("HTTP/1.1 304"), "{text}");
    scene.by_the_agent()
}

#[test]
fn two_hosts_are_refused_with_400() -> Result<()> {
    let scene = Scene::new()?;

    let text = scene.raw("GET / HTTP/1.1\\r\\nHost: odd\\r\\nHost: even\\r\\n\\r\\n")?;

    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    scene.by_the_agent()
}

#[test]
fn http_1_0_without_host_gets_one_on_its_way_up() -> Result<()> {
    let scene = Scene::new()?;

    let text = scene.raw("GET / HTTP/1.0\\r\\n\\r\\n")?;

    let host = format!("host: {}", scene.odd.address());
    assert!(text.to_lowercase().contains(&host), "{text}");
    scene.by_the_agent()
}

#[test]
fn a_client_that_gives_up_is_given_up_upstream() -> Result<()> {
    let mut scene = Scene::new()?;

    let curl = scene
        .client
        .curl(&["--max-time", "1", &scene.odd.url_of("never")])?;

    assert!(!curl.status.success(), "{}", curl.stdout);
    scene.server.wait_for_output("asked")?;
    scene.server.wait_for_output("given up")?;
    scene.by_the_agent()
}

#[test]
fn a_client_that_closes_only_its_side_still_gets_its_answer() -> Result<()> {
    let scene = Scene::new()?;
    let request = "GET /slow HTTP/1.1\\r\\nHost: odd\\r\\n\\r\\n";

    let report = scene
        .client
        .talk(scene.odd.address(), &["--send", request, "--half-close"])?;

    let text = report["received"].as_str().context("text in the report")?;
    assert!(text.starts_with("HTTP/1.1 200"), "{report}");
    scene.by_the_agent()
}

#[test]
fn a_large_upload_to_nowhere_still_gets_its_answer() -> Result<()> {
    let scene = Scene::new()?;
    let command = format!(
        "for n in 1 2 3 4 5 6 7 8 9 10; do head -c 20000000 /dev/zero | curl --silent --show-error --max-time 10 \
         --output /dev/null --write-out '%{{http_code}} ' -H 'Expect:' -H 'Host:' --http1.1 -T - {}; done",
        scene.odd.url()
    );

    let codes = scene.client.run("sh", &["-c", &command])?;

    assert_eq!(codes.stdout, "400 ".repeat(10), "{}", codes.stderr);
    scene.by_the_agent()
}

#[test]
fn upstream_connections_are_probed_while_they_wait() -> Result<()> {
    let mut scene = Scene::new()?;
    let url = scene.odd.url_of("never");
    let waiting = scene.client.start_load(&Load::new(&url).requests(1))?;
    scene.server.wait_for_output("asked")?;

    let query = ["-Htno", "state", "established", "dport", "=", ":8080"];
    let sockets = scene.client.run("ss", &query)?.success()?;

    // Or a server whose node is gone would be waited for without end.
    assert!(sockets.contains("timer:(keepalive"), "{sockets}");
    drop(waiting);
    scene.by_the_agent()
}
