//! Which of several routes decides: consumers before producers, then by age and name.

use anyhow::Result;
use proxy_e2e::manifest::http_route;
use serde_json::{Value, json};

use super::{Scene, to};

#[test]
fn a_consumer_route_is_seen_by_its_own_namespace_alone() -> Result<()> {
    let scene = Scene::new()?;
    let consumer = scene
        .node
        .pod("consumer")
        .namespace("shop")
        .captured()
        .start()?;
    scene.agent.wait_captured([&consumer])?;
    let rules = json!([{ "filters": [{
        "type": "RequestRedirect",
        "requestRedirect": { "hostname": "elsewhere.example" },
    }]}]);
    let mut route = http_route("route", "web", &rules);
    route["metadata"]["namespace"] = json!("shop");
    route["spec"]["parentRefs"][0]["namespace"] = json!("default");
    let config = scene.node.config();
    scene.agent.put(config, "consumer.yaml", &[route])?;

    assert_eq!(consumer.status(&[&scene.web.url()])?, 302);
    assert_eq!(
        scene.endpoint("", &[])?,
        "web-0",
        "the control: a client of another namespace"
    );
    Ok(())
}

#[test]
fn a_consumer_route_stands_before_the_producers_for_its_namespace() -> Result<()> {
    let scene = Scene::new()?;
    let consumer = scene
        .node
        .pod("consumer")
        .namespace("shop")
        .captured()
        .start()?;
    scene.agent.wait_captured([&consumer])?;
    let producers = http_route("producer", "web", &json!([{ "backendRefs": to("blue") }]));
    let redirect = json!({ "hostname": "elsewhere.example" });
    let mut consumers = http_route(
        "consumer",
        "web",
        &json!([
            { "filters": [{ "type": "RequestRedirect", "requestRedirect": redirect }] },
        ]),
    );
    consumers["metadata"]["namespace"] = json!("shop");
    consumers["spec"]["parentRefs"][0]["namespace"] = json!("default");
    scene.put(std::slice::from_ref(&producers))?;
    let url = scene.web.url();
    assert_eq!(
        consumer.get(&url)?.endpoint,
        "blue-0",
        "the producers' alone"
    );

    scene.put(&[producers, consumers])?;

    assert_eq!(consumer.status(&[&url])?, 302);
    assert_eq!(scene.endpoint("", &[])?, "blue-0", "of another namespace");
    Ok(())
}

#[test]
fn of_equal_matches_the_older_route_decides_then_the_first_by_name() -> Result<()> {
    let scene = Scene::new()?;
    let route = |name: &str, created: &str, service: &str| -> Value {
        let mut route = http_route(name, "web", &json!([{ "backendRefs": to(service) }]));
        route["metadata"]["creationTimestamp"] = json!(created);
        route
    };
    let (old, new) = ("2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z");
    for (routes, expected) in [
        ([("a", old, "blue"), ("b", new, "green")], "blue-0"),
        ([("a", new, "blue"), ("b", old, "green")], "green-0"),
        ([("b", old, "green"), ("a", old, "blue")], "blue-0"),
    ] {
        scene.put(&routes.map(|(name, created, to)| route(name, created, to)))?;
        assert_eq!(scene.endpoint("", &[])?, expected, "{routes:?}");
    }
    Ok(())
}
