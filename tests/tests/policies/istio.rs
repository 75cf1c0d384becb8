//! What VirtualServices and DestinationRules do, by traffic.

use anyhow::Result;
use proxy_e2e::{Load, Node, Pod, until};
use serde_json::{Value, json};

use crate::scene::{Scene, seen_by};

fn to_web() -> Value {
    json!([{ "destination": { "host": "web" } }])
}

#[test]
fn faults_hit_their_share_and_say_so() -> Result<()> {
    let scene = Scene::new()?;
    let abort = json!({ "abort": { "httpStatus": 418, "percentage": { "value": 25 } } });
    scene.virtual_service(json!([
        { "match": [{ "uri": { "prefix": "/half" } }], "fault": abort, "route": to_web() },
        {
            "match": [{ "uri": { "prefix": "/all" } }],
            "fault": { "abort": { "grpcStatus": "UNAVAILABLE", "percentage": { "value": 100 } } },
            "route": to_web(),
        },
        { "route": to_web() },
    ]))?;

    let load = Load::new(&scene.web.url_of("half"))
        .requests(400)
        .connections(2);
    let report = scene.client.load(&load)?;
    let grpc = scene.head("all", &[])?;

    let aborted = report.by_status.get(&418).copied().unwrap_or(0);
    // Five standard deviations of a binomial share: 5 × sqrt(400 × 0.25 × 0.75) = 43.
    assert!((57..=143).contains(&aborted), "{report:?}");
    assert_eq!(
        report.by_reason.get("fault_abort"),
        Some(&aborted),
        "{report:?}"
    );
    assert_eq!(scene.seen("/half")?.len() as u64, 400 - aborted);
    assert!(
        grpc.contains(" 200 ") && grpc.contains("grpc-status: 14"),
        "{grpc}"
    );
    assert_eq!(scene.status("none", &[])?, 200);
    let faults = r#"proxy_agent_faults_total{cluster="default/web:80",kind="abort"} "#;
    assert_eq!(scene.metric(faults)?, aborted + 1);
    Ok(())
}

#[test]
fn a_delay_holds_a_request_back() -> Result<()> {
    let scene = Scene::new()?;
    scene.virtual_service(json!([{
        "fault": { "delay": { "fixedDelay": "3s", "percentage": { "value": 100 } } },
        "match": [{ "uri": { "prefix": "/slow" } }],
        "route": to_web(),
    }, { "route": to_web() }]))?;

    let cut = scene
        .client
        .curl(&["--max-time", "1", &scene.web.url_of("slow")])?;

    assert!(cut.success().is_err(), "held back for longer than a second");
    assert_eq!(scene.seen("/slow")?.len(), 0, "and not sent meanwhile");
    assert_eq!(scene.status("slow", &[])?, 200);
    assert_eq!(scene.status("fast", &["--max-time", "2"])?, 200);
    let faults = r#"proxy_agent_faults_total{cluster="default/web:80",kind="delay"} "#;
    assert_eq!(scene.metric(faults)?, 2);
    Ok(())
}

#[test]
fn a_direct_response_reaches_no_endpoint() -> Result<()> {
    let scene = Scene::new()?;
    scene.virtual_service(json!([{
        "directResponse": { "status": 503, "body": { "string": "closed for today" } },
        "headers": { "response": { "set": { "retry-after": "3600" } } },
    }]))?;

    let head = scene.head("a", &[])?;
    let body = scene.client.curl(&[&scene.web.url_of("a")])?.success()?;

    assert_eq!(body, "closed for today");
    for line in [
        " 503 ",
        "x-proxy-agent-reason: direct_response",
        "retry-after: 3600",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert_eq!(scene.seen("/a")?.len(), 0);
    Ok(())
}

#[test]
fn retries_are_by_envoys_conditions_and_mirrors_have_a_shadow_host() -> Result<()> {
    let scene = Scene::new()?;
    let path = |prefix: &str| json!([{ "uri": { "prefix": prefix } }]);
    scene.virtual_service(json!([
        {
            "match": path("/fail/503"),
            "retries": { "attempts": 3, "retryOn": "gateway-error" },
            "route": to_web(),
        },
        { "mirror": { "host": "shadow" }, "route": to_web() },
    ]))?;

    assert_eq!(scene.status("fail/503/1/a", &[])?, 200);
    assert_eq!(
        scene.status("fail/500/1/a", &[])?,
        500,
        "not among the conditions"
    );
    assert_eq!(
        scene.seen("/fail/500/1/a")?.len(),
        1,
        "nor of the default ones"
    );
    let sent = scene
        .client
        .request(&["-H", "Host: web:8080", &scene.web.url_of("copied")])?;
    assert_eq!(sent.authority, "web:8080");
    until("the mirror has seen the request", || {
        Ok(!seen_by(&scene.shadow, "/copied")?.is_empty())
    })?;
    let copy = seen_by(&scene.shadow, "/copied")?.remove(0);
    assert_eq!(copy.authority, "web-shadow:8080");
    Ok(())
}

#[test]
fn a_subset_gets_what_is_sent_to_it_and_follows_the_pods_labels() -> Result<()> {
    let node = Node::new()?;
    let version = |name: &str, version: &str| -> Result<Pod> {
        let pod = node.pod(name).label("version", version).start()?;
        pod.serve_echo(8080)?;
        Ok(pod)
    };
    let servers = [
        version("web-0", "v1")?,
        version("web-1", "v1")?,
        version("web-2", "v2")?,
    ];
    let web = node.service("web").to(&servers)?;
    let client = node.pod("client").label("app", "shop").captured().start()?;
    let agent = proxy_e2e::Agent::start(&node)?;
    agent.wait_captured([&client])?;
    agent.wait_endpoints(&web, 3)?;
    let subset = |name: &str| json!([{ "destination": { "host": "web", "subset": name } }]);
    let subsets = ["v1", "v2"].map(|name| json!({ "name": name, "labels": { "version": name } }));
    let objects = [
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": { "namespace": "default", "name": "web" },
            "spec": { "host": "web", "subsets": subsets },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": { "namespace": "default", "name": "web" },
            "spec": { "hosts": ["web"], "http": [
                {
                    "match": [{ "sourceLabels": { "app": "shop" }, "uri": { "prefix": "/mine" } }],
                    "route": subset("v2"),
                },
                {
                    "match": [{ "sourceLabels": { "app": "blog" } }],
                    "directResponse": { "status": 418 },
                },
                { "route": subset("v1") },
            ] },
        }),
    ];
    node.config().put("mesh.yaml", &objects)?;
    until("the rules are in force", || {
        // Without the rules each of these would be another endpoint's two times in three.
        let all = (0..12).map(|_| Ok(client.get(&web.url_of("mine"))?.endpoint));
        let all = all.collect::<Result<Vec<_>>>()?;
        Ok(all.iter().all(|endpoint| endpoint == "web-2"))
    })?;

    let load = Load::new(&web.url_of("a")).requests(100).connections(2);
    let report = client.load(&load)?;

    report.all_ok(100)?;
    assert_eq!(report.of("web-2"), 0, "{report:?}");
    assert!(
        report.of("web-0") > 0 && report.of("web-1") > 0,
        "{report:?}"
    );
    assert_eq!(client.get(&web.url_of("mine"))?.endpoint, "web-2");
    let status = agent.status()?;
    assert_eq!(status["overview"]["errors"], 0, "{}", status["problems"]);
    Ok(())
}
