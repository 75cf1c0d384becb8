//! What the kernel holds, what `status` says of it, and what is left when the agent is gone.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use proxy_e2e::{Agent, Load, Scene, until};
use serde_json::Value;

/// Program ids that bpftool finds on the kubepods cgroup.
fn attached(scene: &Scene) -> Result<Vec<u64>> {
    let path = scene.node.kubepods().to_str().context("a path in UTF-8")?;
    let listing = bpftool(&["cgroup", "show", path])?;
    let entries = listing.as_array().cloned().unwrap_or_default();
    Ok(entries
        .iter()
        .filter_map(|entry| entry["id"].as_u64())
        .collect())
}

fn programs(scene: &Scene) -> Result<Vec<Value>> {
    let status = scene.agent.status()?;
    status["bpf"]["programs"]
        .as_array()
        .cloned()
        .context("programs in status")
}

fn bpftool(arguments: &[&str]) -> Result<Value> {
    let output = Command::new("bpftool")
        .arg("--json")
        .args(arguments)
        .output();
    let output = output.context("run bpftool")?;
    let error = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "bpftool {arguments:?}: {error}");
    if output.stdout.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).context("bpftool's JSON")
}

#[test]
fn status_shows_the_programs_that_the_kernel_runs() -> Result<()> {
    let scene = Scene::new(1)?;

    let shown = programs(&scene)?;
    let attached = attached(&scene)?;

    assert!(
        shown.len() >= 6,
        "connect4, connect6, getpeername4, getpeername6, sock_release, sockops"
    );
    for program in &shown {
        assert_eq!(program["attached"], true, "{program}");
        let id = program["id"].as_u64().context("a program id")?;
        assert!(
            attached.contains(&id),
            "bpftool does not see {program}: {attached:?}"
        );
    }
    Ok(())
}

#[test]
fn a_program_that_somebody_detaches_is_noticed_and_connections_pass() -> Result<()> {
    let scene = Scene::new(1)?;
    assert_eq!(scene.agent.probe("/readyz")?.0, 200, "the control");
    let before = programs(&scene)?;
    let connect4 = before
        .iter()
        .find(|p| p["name"] == "connect4")
        .context("connect4")?;
    let links = bpftool(&["link", "show"])?;
    let link = links
        .as_array()
        .context("links")?
        .iter()
        .find(|link| link["prog_id"] == connect4["id"]);
    let link = link
        .and_then(|link| link["id"].as_u64())
        .context("the link of connect4")?;

    bpftool(&["link", "detach", "id", &link.to_string()])?;

    until("status shows it", || {
        let shown = programs(&scene)?;
        let connect4 = shown
            .iter()
            .find(|p| p["name"] == "connect4")
            .context("connect4")?;
        Ok(connect4["attached"] == false)
    })?;
    until("/readyz names it", || {
        let (code, body) = scene.agent.probe("/readyz")?;
        Ok(code == 503 && body.contains("connect4"))
    })?;
    scene
        .client
        .load(&Load::new(&scene.web.url()).requests(10).fresh())?
        .all_ok(10)?;
    assert_eq!(scene.web.dnat_connections()?, 10);
    Ok(())
}

#[test]
fn nothing_is_left_in_the_kernel_however_the_agent_ends() -> Result<()> {
    let mut scene = Scene::new(1)?;
    assert!(!attached(&scene)?.is_empty(), "the control");
    scene.agent.process().kill()?;
    assert_eq!(attached(&scene)?, [0_u64; 0], "after SIGKILL");

    let agent = Agent::start(&scene.node)?;
    assert!(!attached(&scene)?.is_empty(), "the control");
    agent.stop()?;
    assert_eq!(attached(&scene)?, [0_u64; 0], "after SIGTERM");
    Ok(())
}

#[test]
fn counters_and_metrics_follow_the_connections() -> Result<()> {
    let scene = Scene::new(1)?;
    scene
        .client
        .load(&Load::new(&scene.web.url()).requests(10).fresh())?
        .all_ok(10)?;

    assert_eq!(scene.agent.counter("proxied")?, 10);
    assert_eq!(scene.agent.counter("flow_bound")?, 10);
    assert_eq!(scene.agent.counter("flow_bind_failed")?, 0);
    let metrics = scene.agent.metrics()?;
    let proxied = metrics.lines().find(|line| line.contains("\"proxied\""));
    assert!(
        proxied.is_some_and(|line| line.ends_with(" 10")),
        "{metrics}"
    );
    until("every destination was taken from the map", || {
        let status = scene.agent.status()?;
        let maps = status["bpf"]["maps"].as_array().context("maps")?;
        let flows = maps
            .iter()
            .find(|map| map["name"] == "ORIG_DST")
            .context("ORIG_DST")?;
        Ok(flows["entries"] == 0)
    })
}

#[test]
fn check_passes_where_the_tests_run() -> Result<()> {
    let scene = Scene::new(1)?;
    let output = scene.agent.offline(&["check"])?.success()?;
    assert!(output.to_lowercase().contains("cgroup"), "{output}");
    Ok(())
}

#[test]
fn every_view_of_status_answers_in_every_format() -> Result<()> {
    let scene = Scene::new(1)?;
    for view in ["pods", "services", "routes", "endpoints", "bpf"] {
        for format in ["table", "json", "yaml"] {
            let output = scene.agent.verb(&["status", view, "-o", format])?.success();
            let output = output.with_context(|| format!("status {view} -o {format}"))?;
            assert!(!output.trim().is_empty(), "status {view} -o {format}");
        }
    }
    let pods = scene.agent.verb(&["status", "pods"])?.success()?;
    assert!(pods.contains("client") && pods.contains("web-0"), "{pods}");
    Ok(())
}

#[test]
fn explain_tells_what_a_request_then_does() -> Result<()> {
    let scene = Scene::new(1)?;
    let url = scene.web.url();

    let told = scene
        .agent
        .verb(&["explain", "--from", "default/client", "GET", &url])?;
    let told = told.success()?;

    assert!(told.contains("web"), "{told}");
    assert!(told.contains("10.244."), "it lists the endpoint: {told}");
    let passed = scene
        .agent
        .verb(&["explain", "--from", "default/web-0", "GET", &url])?;
    let passed = passed.success()?;
    assert!(
        passed.contains("not"),
        "the control: web-0 is not captured: {passed}"
    );
    Ok(())
}
