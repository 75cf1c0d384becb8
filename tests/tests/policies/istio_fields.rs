//! Fields of VirtualServices, each by traffic with a control.

use anyhow::{Context, Result};
use proxy_e2e::{Load, until};
use serde_json::{Value, json};

use crate::scene::{Scene, seen_by};

fn to(service: &str) -> Value {
    json!([{ "destination": { "host": service } }])
}

fn virtual_service(spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "namespace": "default", "name": "route" },
        "spec": spec,
    })
}

/// A route that says that it was taken.
fn marked() -> Value {
    json!([{ "directResponse": { "status": 418 } }])
}

/// Gives `web` the port 8081 beside 80, to the same endpoints.
fn with_second_port(scene: &Scene) -> Result<()> {
    let mut object = scene.web.object().clone();
    let ports = object["spec"]["ports"].as_array_mut().context("ports")?;
    ports.push(json!({ "name": "http-2", "port": 8081, "targetPort": 8080 }));
    scene.replace_web(&object)
}

fn on_second_port(scene: &Scene, path: &str) -> String {
    format!("http://{}:8081/{path}", scene.web.ip())
}

#[test]
fn a_timeout_ends_a_slow_request() -> Result<()> {
    let scene = Scene::new()?;
    scene.virtual_service(json!([
        {
            "match": [{ "uri": { "prefix": "/slow/1/limited" } }],
            "timeout": "0.5s",
            "retries": { "attempts": 0 },
            "route": to("web"),
        },
        { "route": to("web") },
    ]))?;

    assert_eq!(scene.status("slow/1/limited", &[])?, 504);
    assert_eq!(scene.status("slow/1/free", &[])?, 200, "the control");
    Ok(())
}

#[test]
fn an_expression_matches_the_whole_path() -> Result<()> {
    let scene = Scene::new()?;
    scene.virtual_service(json!([
        { "match": [{ "uri": { "regex": "/v[0-9]+/(a|b)" } }], "route": to("shadow") },
        { "route": to("web") },
    ]))?;

    for (path, chosen) in [
        ("v12/a", true),
        ("v1/b?c", true),
        ("v1/a/b", false),
        ("x/v1/a", false),
    ] {
        let endpoint = scene.client.get(&scene.web.url_of(path))?.endpoint;
        assert_eq!(endpoint == "shadow-0", chosen, "{path}: {endpoint}");
    }
    Ok(())
}

#[test]
fn ports_are_told_apart_and_a_destination_without_one_has_the_one_asked_for() -> Result<()> {
    let scene = Scene::new()?;
    with_second_port(&scene)?;
    scene.virtual_service(json!([
        { "match": [{ "port": 8081, "uri": { "prefix": "/second" } }], "route": to("shadow") },
        { "route": to("web") },
    ]))?;

    let endpoint = |url: &str| Ok::<_, anyhow::Error>(scene.client.get(url)?.endpoint);
    assert_eq!(
        endpoint(&on_second_port(&scene, "second"))?,
        "shadow-0",
        "{:#}",
        scene.agent.status()?["problems"]
    );
    assert!(endpoint(&scene.web.url_of("second"))?.starts_with("web-"));
    assert!(endpoint(&on_second_port(&scene, "other"))?.starts_with("web-"));
    for cluster in ["default/web:80", "default/web:8081"] {
        let labels = format!("{{cluster=\"{cluster}\",status_class=\"2xx\"}} ");
        let requests = scene.metric(&format!("proxy_agent_requests_total{labels}"))?;
        assert_eq!(requests, 1, "{cluster}: {}", scene.agent.metrics()?);
    }
    Ok(())
}

#[test]
fn a_redirects_port_is_named_derived_or_the_schemes() -> Result<()> {
    let scene = Scene::new()?;
    with_second_port(&scene)?;
    let path = |prefix: &str| json!([{ "uri": { "prefix": prefix } }]);
    let redirect = |prefix: &str, derived: Value| {
        let mut redirect = json!({ "authority": "a.example" });
        if !derived.is_null() {
            redirect["derivePort"] = derived;
        }
        json!({ "match": path(prefix), "redirect": redirect })
    };
    scene.virtual_service(json!([
        redirect("/asked", json!("FROM_REQUEST_PORT")),
        redirect("/default", json!("FROM_PROTOCOL_DEFAULT")),
        redirect("/unsaid", json!(null)),
    ]))?;

    for (path, expected) in [
        ("asked", "http://a.example:8081/asked"),
        ("default", "http://a.example/default"),
        ("unsaid", "http://a.example/unsaid"),
    ] {
        let url = on_second_port(&scene, path);
        let shown = ["--dump-header", "-", "--output", "/dev/null", &url];
        let head = scene.client.curl(&shown)?.success()?.to_lowercase();
        assert!(head.contains(&format!("location: {expected}\r")), "{head}");
    }
    let head = scene.head("asked", &[])?;
    assert!(
        head.contains("location: http://a.example/asked\r"),
        "{head}"
    );
    Ok(())
}

#[test]
fn a_rewrite_without_a_match_on_the_path_is_of_its_first_slash() -> Result<()> {
    let scene = Scene::new()?;
    let by_header = |name: &str, uri: &str| {
        let mut route = json!({ "match": [{ "headers": { name: {} } }], "route": to("web") });
        route["rewrite"] = json!({ "uri": uri });
        route
    };
    scene.virtual_service(json!([
        by_header("x-v2", "/v2/"),
        by_header("x-same", "/"),
        { "route": to("web") },
    ]))?;

    let url = scene.web.url_of("a/b?c");
    for (header, expected) in [
        ("x-v2: 1", "/v2/a/b?c"),
        ("x-same: 1", "/a/b?c"),
        ("x-none: 1", "/a/b?c"),
    ] {
        let path = scene.client.request(&["-H", header, &url])?.path;
        assert_eq!(path, expected, "{header}");
    }
    Ok(())
}

#[test]
fn a_share_of_the_requests_goes_to_the_mirror() -> Result<()> {
    let scene = Scene::new()?;
    scene.virtual_service(json!([
        {
            "match": [{ "uri": { "prefix": "/some" } }],
            "mirror": { "host": "shadow" },
            "mirrorPercentage": { "value": 25.0 },
            "route": to("web"),
        },
        { "route": to("web") },
    ]))?;

    let load = |path| {
        Load::new(&scene.web.url_of(path))
            .requests(400)
            .connections(2)
    };
    scene.client.load(&load("some"))?.all_ok(400)?;
    scene.client.load(&load("other"))?.all_ok(400)?;

    let mirrored = r#"proxy_agent_mirrored_requests_total{cluster="default/shadow:80"} "#;
    let copies = scene.metric(mirrored)?;
    // Five standard deviations of a binomial share: 5 × sqrt(400 × 0.25 × 0.75) = 43.
    assert!((57..=143).contains(&copies), "{copies} of 400");
    until("the mirror has seen them", || {
        Ok(seen_by(&scene.shadow, "/some")?.len() as u64 == copies)
    })?;
    assert_eq!(seen_by(&scene.shadow, "/other")?.len(), 0, "the control");
    Ok(())
}

#[test]
fn an_exponential_delay_holds_a_request_back() -> Result<()> {
    let scene = Scene::new()?;
    // One of 3,600 is held back for less than a second.
    let delay = json!({ "exponentialDelay": "1h", "percentage": { "value": 100 } });
    scene.virtual_service(json!([
        {
            "match": [{ "uri": { "prefix": "/late" } }],
            "fault": { "delay": delay },
            "route": to("web"),
        },
        { "route": to("web") },
    ]))?;

    let url = scene.web.url_of("late");
    let cut = scene.client.curl(&["--max-time", "1", &url])?;

    assert!(cut.success().is_err(), "held back");
    assert_eq!(scene.seen("/late")?.len(), 0, "and not sent meanwhile");
    assert_eq!(scene.status("other", &[])?, 200, "the control");
    let faults = r#"proxy_agent_faults_total{cluster="default/web:80",kind="delay"} "#;
    assert_eq!(scene.metric(faults)?, 1);
    Ok(())
}

#[test]
fn hosts_are_full_names_and_wildcards_too_in_every_version() -> Result<()> {
    let scene = Scene::new()?;
    for (version, host, taken) in [
        ("v1", "web.default.svc.cluster.local", true),
        ("v1", "shadow.default.svc.cluster.local", false),
        ("v1beta1", "*.default.svc.cluster.local", true),
        ("v1alpha3", "*", true),
    ] {
        let mut object = virtual_service(&json!({ "hosts": [host], "http": marked() }));
        object["apiVersion"] = json!(format!("networking.istio.io/{version}"));
        scene.put(&object)?;
        let status = scene.status("a", &[])?;
        assert_eq!(status, if taken { 418 } else { 200 }, "{version} {host}");
    }
    Ok(())
}

#[test]
fn routes_for_gateways_are_not_for_pods() -> Result<()> {
    let scene = Scene::new()?;
    let gateway = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": { "namespace": "default", "name": "gw" },
        "spec": {},
    });
    let with = |gateways: Value, http: Value| {
        let spec = json!({ "hosts": ["web"], "gateways": gateways, "http": http });
        scene.put_all(&[gateway.clone(), virtual_service(&spec)])
    };

    with(json!(["gw", "mesh"]), marked())?;
    assert_eq!(scene.status("a", &[])?, 418, "the control");
    with(json!(["gw"]), marked())?;
    assert_eq!(scene.status("a", &[])?, 200, "the gateway's alone");
    let mut http = marked();
    http[0]["match"] = json!([
        { "gateways": ["gw"], "uri": { "prefix": "/" } },
        { "gateways": ["mesh"], "uri": { "prefix": "/mesh" } },
    ]);
    let routes = http.as_array_mut().context("routes")?;
    routes.push(json!({ "route": to("web") }));
    with(json!(["gw", "mesh"]), http)?;
    assert_eq!(scene.status("mesh", &[])?, 418);
    assert_eq!(scene.status("a", &[])?, 200, "the gateway's match");
    Ok(())
}
