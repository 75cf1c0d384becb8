//! Linkerd's ServiceProfiles and annotations, by traffic.

use anyhow::Result;
use proxy_e2e::Load;
use proxy_e2e::manifest::http_route;
use serde_json::{Value, json};

use crate::scene::Scene;

fn profile(spec: Value) -> Value {
    json!({
        "apiVersion": "linkerd.io/v1alpha2",
        "kind": "ServiceProfile",
        "metadata": { "namespace": "default", "name": "web.default.svc.cluster.local" },
        "spec": spec,
    })
}

/// Service `web` again, with annotations.
fn annotated(scene: &Scene, annotations: &Value) -> Result<()> {
    let mut object = scene.web.object().clone();
    object["metadata"]["annotations"] = annotations.clone();
    object["metadata"]["annotations"]["proxy-agent.io/balance"] = json!("round-robin");
    scene.replace_web(&object)
}

#[test]
fn a_profiles_retryable_route_is_tried_again_and_no_other() -> Result<()> {
    let scene = Scene::new()?;
    scene.put(&profile(json!({
        "routes": [
            { "name": "reads", "condition": { "method": "GET", "pathRegex": "/fail/.*/read" }, "isRetryable": true },
            { "name": "writes", "condition": { "method": "POST" } },
        ],
    })))?;

    assert_eq!(scene.status("fail/503/1/read", &[])?, 200);
    assert_eq!(
        scene.seen("/fail/503/1/read")?.len(),
        4,
        "each endpoint fails its first"
    );
    assert_eq!(scene.status("fail/503/1/other", &[])?, 503, "of no route");
    assert_eq!(
        scene.status("fail/503/1/w", &["--data", "x"])?,
        503,
        "of another route"
    );
    assert_eq!(scene.status("fail/404/1/read", &[])?, 404, "no failure");
    assert_eq!(scene.seen("/fail/404/1/read")?.len(), 1);
    Ok(())
}

#[test]
fn response_classes_decide_what_is_tried_again_and_counts_as_a_failure() -> Result<()> {
    let scene = Scene::new()?;
    scene.put(&profile(json!({
        "routes": [{
            "name": "all",
            "condition": { "pathRegex": "/fail/.*" },
            "isRetryable": true,
            "responseClasses": [
                { "condition": { "status": { "min": 404, "max": 404 } }, "isFailure": true },
                { "condition": { "status": { "min": 503, "max": 503 } }, "isFailure": false },
            ],
        }],
    })))?;

    assert_eq!(scene.status("fail/404/1/a", &[])?, 200);
    assert_eq!(
        scene.status("fail/503/1/a", &[])?,
        503,
        "no failure, by the profile"
    );
    assert_eq!(scene.status("fail/500/1/a", &[])?, 200, "by default");
    let failed = r#"proxy_agent_requests_failed_total{cluster="default/web:80"} "#;
    assert_eq!(scene.metric(failed)?, 0);
    assert_eq!(scene.status("fail/404/999/b", &[])?, 404);
    assert_eq!(scene.metric(failed)?, 1);
    Ok(())
}

#[test]
fn a_profiles_budget_bounds_its_retries_to_the_count() -> Result<()> {
    let scene = Scene::with_workers(1)?;
    scene.put(&profile(json!({
        "retryBudget": { "retryRatio": 0.1, "minRetriesPerSecond": 0, "ttl": "1h" },
        "routes": [{ "name": "all", "condition": { "method": "GET" }, "isRetryable": true }],
    })))?;
    let load = Load::new(&scene.web.url_of("fail/503/100000/a"));

    let report = scene.client.load(&load.requests(100).connections(1))?;

    assert_eq!(report.by_status.get(&503), Some(&100), "{report:?}");
    let tries = scene.seen("/fail/503/100000/a")?.len();
    assert_eq!(tries, 110, "a tenth of the requests may be retries");
    let retries = r#"proxy_agent_retries_total{cluster="default/web:80"} "#;
    assert_eq!(scene.metric(retries)?, 10);
    Ok(())
}

#[test]
fn a_profiles_timeout_and_destinations_hold() -> Result<()> {
    let scene = Scene::new()?;
    let to = |name: &str| format!("{name}.default.svc.cluster.local:80");
    scene.put(&profile(json!({
        "routes": [{ "name": "slow", "condition": { "pathRegex": "/slow/.*" }, "timeout": "300ms" }],
        "dstOverrides": [
            { "authority": to("web"), "weight": "500m" },
            { "authority": to("shadow"), "weight": "500m" },
        ],
    })))?;

    let head = scene.head("slow/99/a", &[])?;
    let load = Load::new(&scene.web.url_of("fail/200/0/a"));
    let report = scene.client.load(&load.requests(400).connections(2))?;

    assert!(
        head.contains(" 504 ") && head.contains("timeout_request"),
        "{head}"
    );
    report.all_ok(400)?;
    // Five standard deviations of a binomial share: 5 × sqrt(400 × 0.5 × 0.5) = 50.
    let shadow = report.of("shadow-0");
    assert!((150..=250).contains(&shadow), "{:?}", report.by_endpoint);
    Ok(())
}

#[test]
fn a_services_annotations_give_its_requests_retries() -> Result<()> {
    let scene = Scene::new()?;
    assert_eq!(scene.status("fail/503/1/without", &[])?, 503);
    annotated(
        &scene,
        &json!({ "retry.linkerd.io/http": "5xx", "retry.linkerd.io/limit": "3" }),
    )?;

    assert_eq!(scene.status("fail/503/1/a", &[])?, 200);
    assert_eq!(scene.seen("/fail/503/1/a")?.len(), 4);
    assert_eq!(scene.status("fail/404/1/a", &[])?, 404);

    annotated(
        &scene,
        &json!({
            "retry.linkerd.io/http": "5xx",
            "retry.linkerd.io/limit": "3",
            "retry.linkerd.io/timeout": "300ms",
        }),
    )?;
    assert_eq!(scene.status("slow/1/a", &[])?, 200);
    assert_eq!(
        scene.seen("/slow/1/a")?.len(),
        4,
        "each endpoint is slow at first"
    );
    Ok(())
}

#[test]
fn a_response_that_has_begun_is_cut_off_at_its_limits() -> Result<()> {
    let scene = Scene::new()?;
    // Ten parts, one every 200 ms.
    let whole = scene.body("drip/10/a")?;
    assert_eq!(whole.len(), 10, "without limits");

    annotated(&scene, &json!({ "timeout.linkerd.io/request": "900ms" }))?;
    let cut = scene.body("drip/10/b")?;
    assert!((1..10).contains(&cut.len()), "after 900 ms: {cut}");

    annotated(&scene, &json!({ "timeout.linkerd.io/idle": "1s" }))?;
    assert_eq!(scene.body("drip/10/c")?.len(), 10, "never idle for 1 s");
    let stalled = scene.body("stall/a")?;
    assert_eq!(stalled.len(), 1, "then nothing for 10 s");
    Ok(())
}

#[test]
fn a_limit_on_the_response_begins_with_the_request() -> Result<()> {
    let scene = Scene::new()?;
    annotated(&scene, &json!({ "timeout.linkerd.io/response": "9s" }))?;
    assert_eq!(scene.body("drip/10/a")?.len(), 10, "the control");

    annotated(&scene, &json!({ "timeout.linkerd.io/response": "900ms" }))?;
    let cut = scene.body("drip/10/b")?;
    assert!((1..10).contains(&cut.len()), "after 900 ms: {cut}");
    Ok(())
}

#[test]
fn a_routes_annotations_are_for_its_own_requests() -> Result<()> {
    let scene = Scene::new()?;
    let prefix = |value: &str| json!([{ "path": { "type": "PathPrefix", "value": value } }]);
    let to_web = json!([{ "name": "web", "port": 80 }]);
    let route = |name: &str, path: &str| {
        let rules = json!([{ "matches": prefix(path), "backendRefs": to_web }]);
        http_route(name, "web", &rules)
    };
    let mut with = route("with", "/fail/503");
    with["metadata"]["annotations"] = json!({
        "retry.linkerd.io/http": "5xx",
        "retry.linkerd.io/limit": "3",
    });
    scene.put_all(&[with, route("without", "/fail/500")])?;

    assert_eq!(scene.status("fail/503/1/a", &[])?, 200);
    assert_eq!(scene.seen("/fail/503/1/a")?.len(), 4);
    assert_eq!(scene.status("fail/500/1/a", &[])?, 500, "of another route");
    Ok(())
}

#[test]
fn conditions_of_a_profile_are_joined() -> Result<()> {
    let scene = Scene::new()?;
    let path = |expression: &str| json!({ "pathRegex": expression });
    scene.put(&profile(json!({ "routes": [{
        "name": "slow",
        "condition": { "all": [
            { "method": "GET" },
            { "any": [path("/slow/.*/a"), path("/slow/.*/b")] },
            { "not": path("/slow/2/.*") },
        ]},
        "timeout": "300ms",
    }]})))?;

    assert_eq!(scene.status("slow/99/a", &[])?, 504);
    assert_eq!(scene.status("slow/99/b", &[])?, 504);
    for (path, arguments, why) in [
        ("slow/99/c", &[][..], "none of any"),
        ("slow/99/a", &["--data", "x"], "not all"),
        ("slow/2/a", &[], "what is not meant"),
    ] {
        assert_eq!(scene.status(path, arguments)?, 200, "{why}");
    }
    Ok(())
}

#[test]
fn a_profile_of_the_clients_namespace_is_for_its_own_clients() -> Result<()> {
    let scene = Scene::new()?;
    let pod = scene.node.pod("consumer").namespace("shop").captured();
    let consumer = pod.start()?;
    scene.agent.wait_captured([&consumer])?;
    let mut object = profile(json!({
        "routes": [{ "name": "slow", "condition": { "method": "GET" }, "timeout": "300ms" }],
    }));
    object["metadata"]["namespace"] = json!("shop");
    scene.put(&object)?;

    assert_eq!(consumer.status(&[&scene.web.url_of("slow/99/a")])?, 504);
    assert_eq!(scene.status("slow/99/a", &[])?, 200, "of another namespace");
    Ok(())
}

#[test]
fn ports_are_opaque_by_a_profile_and_by_a_namespace_too() -> Result<()> {
    let scene = Scene::new()?;
    let abort = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "namespace": "default", "name": "route" },
        "spec": { "hosts": ["web"], "http": [{
            "fault": { "abort": { "httpStatus": 418, "percentage": { "value": 100 } } },
            "route": [{ "destination": { "host": "web" } }],
        }]},
    });
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": "default",
            "annotations": { "config.linkerd.io/opaque-ports": "4222,80" },
        },
    });
    for (opaque, expected) in [
        (vec![], 418),
        (vec![profile(json!({ "opaquePorts": ["80"] }))], 200),
        (vec![profile(json!({ "opaquePorts": ["81"] }))], 418),
        (vec![namespace], 200),
    ] {
        scene.put_all(&[std::slice::from_ref(&abort), &opaque[..]].concat())?;
        assert_eq!(scene.status("fail/200/0/a", &[])?, expected, "{opaque:?}");
    }
    Ok(())
}

#[test]
fn opaque_ports_are_relayed_byte_by_byte() -> Result<()> {
    let scene = Scene::new()?;
    let abort = json!([{
        "fault": { "abort": { "httpStatus": 418, "percentage": { "value": 100 } } },
        "route": [{ "destination": { "host": "web" } }],
    }]);
    scene.virtual_service(abort)?;
    assert_eq!(scene.status("fail/200/0/a", &[])?, 418, "looked into");

    let mut object = scene.web.object().clone();
    object["metadata"]["annotations"] = json!({ "config.linkerd.io/opaque-ports": "80" });
    scene.replace_web(&object)?;

    assert_eq!(scene.status("fail/200/0/a", &[])?, 200, "not looked into");
    Ok(())
}
