//! Copies of requests.

use anyhow::Result;
use proxy_e2e::{Load, until};
use serde_json::{Value, json};

use crate::scene::{Scene, seen_by};

fn mirror(more: &Value) -> Value {
    let mut mirror = json!({ "backendRef": { "name": "shadow", "port": 80 } });
    if let (Some(mirror), Some(more)) = (mirror.as_object_mut(), more.as_object()) {
        mirror.extend(more.clone());
    }
    json!({ "type": "RequestMirror", "requestMirror": mirror })
}

#[test]
fn a_copy_of_each_request_goes_to_the_mirror_and_its_answer_nowhere() -> Result<()> {
    let scene = Scene::new()?;
    assert_eq!(scene.status("before", &[])?, 200);
    let edits = json!({ "set": [{ "name": "x-kind", "value": "any" }] });
    let modifier = json!({ "type": "RequestHeaderModifier", "requestHeaderModifier": edits });
    scene.rule(json!({ "filters": [modifier, mirror(&json!({}))] }))?;

    // Only the mirror fails: its pod alone has not seen the path before.
    for server in &scene.servers {
        server
            .curl(&["http://127.0.0.1:8080/fail/500/1/a"])?
            .success()?;
    }
    let body = "x".repeat(30_000);
    let sent = scene
        .client
        .request(&["--data", &body, &scene.web.url_of("fail/500/1/a")])?;
    let empty = scene.client.get(&scene.web.url_of("empty"))?;

    assert!(sent.endpoint.starts_with("web-"), "{sent:?}");
    for (original, path) in [(sent, "/fail/500/1/a"), (empty, "/empty")] {
        until("the mirror has seen the request", || {
            Ok(!seen_by(&scene.shadow, path)?.is_empty())
        })?;
        let copy = seen_by(&scene.shadow, path)?.remove(0);
        assert_eq!(copy.method, original.method);
        assert_eq!(copy.body_bytes, original.body_bytes);
        assert_eq!(
            copy.authority, original.authority,
            "Gateway API keeps the host"
        );
        assert_eq!(copy.header("x-kind"), "any", "the rule's filters apply");
    }
    assert_eq!(seen_by(&scene.shadow, "/before")?.len(), 0);
    let mirrored = r#"proxy_agent_mirrored_requests_total{cluster="default/shadow:80"} "#;
    assert_eq!(scene.metric(mirrored)?, 2);
    Ok(())
}

#[test]
fn a_share_of_the_requests_is_mirrored() -> Result<()> {
    share(&json!({ "percent": 25 }))
}

#[test]
fn a_share_may_be_a_fraction() -> Result<()> {
    share(&json!({ "fraction": { "numerator": 50, "denominator": 200 } }))
}

/// Mirrors a quarter of the requests, written this way.
fn share(quarter: &Value) -> Result<()> {
    let scene = Scene::new()?;
    scene.rule(json!({ "filters": [mirror(quarter)] }))?;

    let load = Load::new(&scene.web.url_of("a"))
        .requests(400)
        .connections(2);
    scene.client.load(&load)?.all_ok(400)?;

    let mirrored = r#"proxy_agent_mirrored_requests_total{cluster="default/shadow:80"} "#;
    let copies = scene.metric(mirrored)?;
    // Five standard deviations of a binomial share: 5 × sqrt(400 × 0.25 × 0.75) = 43.
    assert!((57..=143).contains(&copies), "{copies} of 400");
    until("the mirror has seen them", || {
        Ok(seen_by(&scene.shadow, "/a")?.len() as u64 == copies)
    })
}

#[test]
fn a_mirror_that_is_slow_or_gone_does_no_harm() -> Result<()> {
    let scene = Scene::new()?;
    scene.rule(json!({ "filters": [mirror(&json!({}))] }))?;
    for server in &scene.servers {
        server
            .curl(&["http://127.0.0.1:8080/slow/1/a"])?
            .success()?;
    }
    let slow = Load::new(&scene.web.url_of("slow/1/a"))
        .requests(500)
        .connections(4);
    scene.client.load(&slow)?.all_ok(500)?;
    scene
        .shadow
        .run("ip", &["link", "set", "eth0", "down"])?
        .success()?;
    let gone = Load::new(&scene.web.url_of("gone"))
        .requests(500)
        .connections(4);
    scene.client.load(&gone)?.all_ok(500)?;
    let dropped = r#"proxy_agent_mirrored_requests_dropped_total{cluster="default/shadow:80"} "#;
    until("copies are dropped", || Ok(scene.metric(dropped)? > 0))
}
