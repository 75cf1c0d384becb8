//! DestinationRules, and VirtualServices beside other dialects, by traffic.

use std::process::Command;

use anyhow::{Context, Result};
use proxy_e2e::manifest::http_route;
use proxy_e2e::{Load, until};
use serde_json::{Value, json};

use crate::scene::Scene;

fn rule(host: &str, policy: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": { "namespace": "default", "name": "rule" },
        "spec": { "host": host, "trafficPolicy": policy },
    })
}

fn simple(name: &str) -> Value {
    json!({ "loadBalancer": { "simple": name } })
}

/// How often an endpoint is chosen twice in a row, of 60 requests.
fn repeats(scene: &Scene, url: &str) -> Result<usize> {
    let all = (0..60).map(|_| Ok(scene.client.get(url)?.endpoint));
    let all = all.collect::<Result<Vec<_>>>()?;
    Ok(all.windows(2).filter(|pair| pair[0] == pair[1]).count())
}

#[test]
fn settings_of_a_port_and_hosts_with_a_wildcard() -> Result<()> {
    let scene = Scene::with_workers(1)?;
    let mut object = scene.web.object().clone();
    let ports = object["spec"]["ports"].as_array_mut();
    ports
        .context("ports")?
        .push(json!({ "name": "http-2", "port": 8081, "targetPort": 8080 }));
    scene.replace_web(&object)?;
    let (first, second) = (scene.web.url(), format!("http://{}:8081/", scene.web.ip()));
    assert_eq!(repeats(&scene, &second)?, 0, "the control: in turn");

    let mut of_port = simple("RANDOM");
    of_port["port"] = json!({ "number": 8081 });
    scene.put(&rule("web", json!({ "portLevelSettings": [of_port] })))?;
    assert_eq!(repeats(&scene, &first)?, 0, "the other port");
    assert_ne!(
        repeats(&scene, &second)?,
        0,
        "none of 59 has a chance of 4e-11"
    );

    let refused = scene.put(&rule("*.blog.svc.cluster.local", simple("RANDOM")));
    assert!(refused.is_err(), "no such Service");
    assert_eq!(repeats(&scene, &first)?, 0, "of another namespace");
    scene.put(&rule("*.default.svc.cluster.local", simple("RANDOM")))?;
    assert_ne!(repeats(&scene, &first)?, 0);
    Ok(())
}

#[test]
fn least_requests_pass_over_a_busy_endpoint() -> Result<()> {
    let scene = Scene::with_workers(1)?;
    // How many of 200 requests go to an endpoint that has not ended another one's answer.
    let busy = |key: &str| -> Result<u64> {
        let path = format!("/stall/{key}");
        let mut command = Command::new("curl");
        command.args(["--silent", "--output", "/dev/null"]);
        command.arg(scene.web.url_of(&path[1..]));
        let _stalled = scene.client.spawn("stalled", command)?;
        until("an endpoint is busy", || Ok(!scene.seen(&path)?.is_empty()))?;
        let busy = scene.seen(&path)?.remove(0).endpoint;
        let load = Load::new(&scene.web.url()).requests(200).connections(1);
        let report = scene.client.load(&load)?;
        report.all_ok(200)?;
        Ok(report.of(&busy))
    };

    scene.put(&rule("web", simple("LEAST_REQUEST")))?;
    // Each other has less, but for the moment in which the last answer is being counted out.
    let spared = busy("rule")?;
    assert!(spared <= 20, "{spared} of 200");
    scene.put_all(&[])?;
    let in_turn = busy("control")?;
    assert!(
        (66..=67).contains(&in_turn),
        "as the Service says: {in_turn}"
    );
    Ok(())
}

#[test]
fn sections_that_are_not_enforced_are_shown() -> Result<()> {
    let scene = Scene::new()?;
    scene.put(&rule("web", simple("RANDOM")))?;
    let not_enforced = |field: &str| -> Result<bool> {
        let problems = scene.agent.status()?["problems"].clone();
        let lines = problems.as_array().cloned().unwrap_or_default();
        let lines = lines.iter().map(Value::to_string);
        let mut here = lines.filter(|line| line.contains(&format!("spec.trafficPolicy.{field}")));
        Ok(here.any(|line| line.contains("accepted, not enforced")))
    };
    assert!(!not_enforced("")?, "the control");
    scene.put(&rule(
        "web",
        json!({
            "outlierDetection": { "consecutive5xxErrors": 1 },
            "connectionPool": {
                "tcp": { "maxConnections": 1 },
                "http": { "http2MaxRequests": 1 },
            },
            "loadBalancer": {
                "consistentHash": { "useSourceIp": true },
                "localityLbSetting": { "enabled": true },
                "warmup": { "duration": "10s" },
            },
        }),
    ))?;

    for field in [
        "outlierDetection",
        "connectionPool.tcp",
        "connectionPool.http",
        "loadBalancer.consistentHash",
        "loadBalancer.localityLbSetting",
        "loadBalancer.warmup",
    ] {
        assert!(not_enforced(field)?, "{field}");
    }
    assert_eq!(scene.status("a", &[])?, 200);
    Ok(())
}

#[test]
fn an_http_route_goes_before_a_virtual_service_and_this_before_a_profile() -> Result<()> {
    let scene = Scene::new()?;
    let endpoint = || Ok::<_, anyhow::Error>(scene.client.get(&scene.web.url())?.endpoint);
    let route = http_route(
        "r",
        "web",
        &json!([{ "backendRefs": [{ "name": "shadow", "port": 80 }] }]),
    );
    let service = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "namespace": "default", "name": "v" },
        "spec": { "hosts": ["web"], "http": [{ "directResponse": { "status": 418 } }] },
    });
    let override_of = json!({ "authority": "shadow.default.svc.cluster.local:80", "weight": 1 });
    let profile = json!({
        "apiVersion": "linkerd.io/v1alpha2",
        "kind": "ServiceProfile",
        "metadata": { "namespace": "default", "name": "web.default.svc.cluster.local" },
        "spec": { "dstOverrides": [override_of] },
    });
    let shown = |kind: &str| {
        let texts = [kind, "of no effect on Service default/web", "decides"];
        scene.agent.wait_problem(&texts).map(|_| ())
    };

    scene.put(&service)?;
    assert_eq!(scene.status("a", &[])?, 418, "alone");
    scene.put_all(&[service.clone(), route])?;
    assert_eq!(endpoint()?, "shadow-0");
    shown("VirtualService")?;
    scene.put(&profile)?;
    assert_eq!(endpoint()?, "shadow-0", "alone");
    scene.put_all(&[service, profile])?;
    assert_eq!(scene.status("a", &[])?, 418);
    shown("ServiceProfile")
}
