//! What routes refer to: Services of other namespaces, and ports and sections of their parents.

use anyhow::Result;
use proxy_e2e::manifest::{endpoint_slice, http_route};
use proxy_e2e::until;
use serde_json::json;

use crate::{Scene, to};

#[test]
fn another_namespaces_service_is_reached_by_its_grant_alone() -> Result<()> {
    let scene = Scene::new()?;
    let far = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": "shop", "name": "far" },
        "spec": {
            "clusterIP": "10.96.99.9",
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
        },
    });
    let blue = &scene.pods[1];
    let slice = endpoint_slice(&far, "IPv4", &[("far-0".to_owned(), blue.ip())]);
    let grant = |kind: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1beta1",
            "kind": "ReferenceGrant",
            "metadata": { "namespace": "shop", "name": "open" },
            "spec": {
                "from": [{
                    "group": "gateway.networking.k8s.io",
                    "kind": kind,
                    "namespace": "default",
                }],
                "to": [{ "group": "", "kind": "Service", "name": "far" }],
            },
        })
    };
    let config = scene.node.config();
    config.put("far.yaml", &[far.clone(), slice.clone()])?;
    scene.route(&json!([
        { "backendRefs": [{ "name": "far", "namespace": "shop", "port": 80 }] },
    ]))?;
    let status = || scene.client.status(&[&scene.web.url()]);

    until("the Service is there", || {
        Ok(scene.client.status(&["http://10.96.99.9/"])? == 200)
    })?;
    until("the reference is refused", || Ok(status()? == 500))?;
    let other = [far.clone(), slice.clone(), grant("GRPCRoute")];
    scene.agent.put(config, "far.yaml", &other)?;
    assert_eq!(status()?, 500, "a grant for routes of another kind");
    config.put(
        "far.yaml",
        &[far.clone(), slice.clone(), grant("HTTPRoute")],
    )?;
    until("the grant is in force", || Ok(status()? == 200))?;
    assert_eq!(scene.endpoint("", &[])?, "blue-0");
    config.put("far.yaml", &[far, slice])?;
    until("the grant is gone", || Ok(status()? == 500))
}

#[test]
fn a_parents_port_and_section_limit_the_route_to_them() -> Result<()> {
    let scene = Scene::new()?;
    let pod = &scene.pods[0];
    let two = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": "default", "name": "two" },
        "spec": {
            "clusterIP": "10.96.99.8",
            "ports": [
                { "name": "one", "port": 80, "targetPort": 8080, "appProtocol": "http" },
                { "name": "other", "port": 81, "targetPort": 8080, "appProtocol": "http" },
            ],
        },
    });
    let slice = endpoint_slice(&two, "IPv4", &[("web-0".to_owned(), pod.ip())]);
    let config = scene.node.config();
    config.put("two.yaml", &[two, slice])?;
    let rules = json!([{ "backendRefs": to("blue") }]);
    let asked = |port: u16| -> Result<String> {
        let url = format!("http://10.96.99.8:{port}/");
        let answer = scene.client.curl(&["--include", "--max-time", "5", &url])?;
        Ok(answer.stdout.to_lowercase())
    };
    let is = |port: u16, endpoint: &str| -> Result<bool> {
        Ok(asked(port)?.contains(&format!("x-endpoint: {endpoint}")))
    };
    for (limit, value, on) in [
        ("port", json!(81), 81),
        ("port", json!(80), 80),
        ("sectionName", json!("other"), 81),
        ("sectionName", json!("one"), 80),
    ] {
        let mut route = http_route("route", "two", &rules);
        let mut parent = json!({ "group": "", "kind": "Service", "name": "two" });
        parent[limit] = value;
        route["spec"]["parentRefs"] = json!([parent]);
        config.put("route.json", &[route])?;
        let off = if on == 80 { 81 } else { 80 };
        until("the route is on its port and on no other", || {
            Ok(is(on, "blue-0")? && is(off, "web-0")?)
        })?;
    }
    Ok(())
}
