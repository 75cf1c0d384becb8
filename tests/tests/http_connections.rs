//! HTTP/1.1 connections that are set up anew under way: for a large head, after a time of idling.

use anyhow::Result;
use proxy_e2e::{Agent, Node, Scene};

#[test]
fn heads_of_many_fields_pass_up_to_the_limit() -> Result<()> {
    let node = Node::new()?;
    let server = node.pod("nginx-0").start()?;
    server.serve_nginx(8080, node.scratch())?;
    let web = node.service("web").without_dnat().to([&server])?;
    let client = node.pod("client").captured().start()?;
    let agent = Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 1)?;

    for (count, expected) in [(90, 200), (150, 200), (250, 200), (300, 431)] {
        let fields: Vec<String> = (0..count).map(|n| format!("x-{n}: 1")).collect();
        let url = web.url();
        let mut request: Vec<&str> = fields.iter().flat_map(|f| ["-H", f]).collect();
        request.push(&url);
        assert_eq!(client.status(&request)?, expected, "{count} fields");
    }
    Ok(())
}

#[test]
fn a_connection_that_was_idle_for_a_while_serves_the_next_request_and_a_drain_ends_it() -> Result<()>
{
    let scene = Scene::new(1)?;
    let step = ["step", "--url", &scene.web.url()];
    let mut client = scene.client.start_server("e2e-http", &step)?;
    for round in 1..=3 {
        client.input("\n")?;
        client.wait_for_lines(1 + round)?;
        // Longer than an idle connection keeps its buffers.
        std::thread::sleep(std::time::Duration::from_millis(2_500));
    }

    let output = client.stdout();
    let answers = output.lines().skip(1);
    assert_eq!(answers.filter(|line| line.starts_with("200 ")).count(), 3);
    assert_eq!(scene.agent.counter("proxied")?, 1, "all on one connection");
    assert_eq!(scene.web.packets()?, 0, "none by the ordinary path");
    scene.agent.stop()
}
