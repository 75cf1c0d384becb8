//! `explain` in JSON, beside what traffic does.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Scene, to};

fn explain(scene: &Scene, url: &str, more: &[&str]) -> Result<Value> {
    let asked = ["explain", "--from", "default/client", "-o", "json"];
    let shown = scene
        .agent
        .verb(&[&asked[..], more, &["GET", url]].concat())?;
    serde_json::from_str(&shown.success()?).context("JSON")
}

#[test]
fn json_names_the_rule_the_cluster_and_the_rules_that_were_near() -> Result<()> {
    let scene = Scene::new()?;
    let header = json!([{ "name": "x-color", "value": "green" }]);
    let prefix = |value: &str| json!({ "type": "PathPrefix", "value": value });
    scene.route(&json!([
        { "matches": [{ "path": prefix("/a"), "headers": header }], "backendRefs": to("green") },
        { "matches": [{ "path": prefix("/a") }], "backendRefs": to("blue") },
        { "matches": [{ "path": prefix("/other") }], "backendRefs": to("web") },
    ]))?;
    let route = "HTTPRoute.gateway.networking.k8s.io default/route";
    let url = scene.web.url_of("a/x");

    let near = explain(&scene, &url, &[])?;
    let exact = explain(&scene, &url, &["-H", "x-color: green"])?;
    let none = explain(&scene, &scene.web.url_of("b"), &[])?;

    assert_eq!(scene.endpoint("a/x", &[])?, "blue-0");
    assert_eq!(near["route"], format!("{route} spec.rules[1]"), "{near}");
    assert_eq!(near["clusters"][0]["name"], "default/blue:80", "{near}");
    let endpoint = &near["clusters"][0]["endpoints"][0];
    assert_eq!(
        (&endpoint["usable"], &endpoint["pod"]),
        (&json!(true), &json!("default/blue-0"))
    );
    let misses = near["near_misses"].to_string();
    assert!(
        misses.contains(&format!(
            "{route} spec.rules[0]: needs header x-color = green"
        )),
        "{misses}"
    );
    assert_eq!(exact["route"], format!("{route} spec.rules[0]"), "{exact}");
    let misses = exact["near_misses"].as_array().map_or(0, Vec::len);
    let longer = exact["near_misses"].to_string();
    assert!(misses == 0 || longer.contains("path /other"), "{exact}");
    assert_eq!(none["action"], json!(["answers 404 (no_route)"]), "{none}");
    assert_eq!(scene.client.status(&[&scene.web.url_of("b")])?, 404);
    Ok(())
}
