//! What browsers take part in: CORS and sessions.

use anyhow::{Context, Result};
use serde_json::json;

use crate::scene::Scene;

#[test]
fn preflights_are_answered_and_responses_carry_what_is_allowed() -> Result<()> {
    let scene = Scene::new()?;
    let cors = json!({
        "allowOrigins": ["https://shop.example"],
        "allowMethods": ["GET", "PUT"],
        "allowHeaders": ["x-a"],
        "exposeHeaders": ["x-b"],
        "allowCredentials": true,
        "maxAge": 60,
    });
    scene.rule(json!({ "filters": [{ "type": "CORS", "cors": cors }] }))?;
    let preflight = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: PUT"];
    let (shop, other) = (
        "Origin: https://shop.example",
        "Origin: https://other.example",
    );

    let allowed = scene.head("a", &[&preflight[..], &["-H", shop]].concat())?;
    let refused = scene.head("a", &[&preflight[..], &["-H", other]].concat())?;
    let actual = scene.head("b", &["-H", shop])?;
    let foreign = scene.head("b", &["-H", other])?;

    for line in [
        " 204 ",
        "access-control-allow-origin: https://shop.example",
        "access-control-allow-methods: get, put",
        "access-control-allow-headers: x-a",
        "access-control-allow-credentials: true",
        "access-control-max-age: 60",
    ] {
        assert!(allowed.contains(line), "{line} in {allowed}");
    }
    assert!(refused.contains(" 204 "), "{refused}");
    assert_eq!(scene.seen("/a")?.len(), 0, "preflights are the agent's");
    assert!(
        actual.contains("access-control-allow-origin: https://shop.example"),
        "{actual}"
    );
    assert!(
        actual.contains("access-control-expose-headers: x-b"),
        "{actual}"
    );
    assert!(actual.contains("x-endpoint: web-"), "{actual}");
    for without in [refused, foreign] {
        assert!(!without.contains("access-control-"), "{without}");
    }
    Ok(())
}

#[test]
fn a_session_keeps_to_its_endpoint_until_that_is_gone() -> Result<()> {
    let scene = Scene::new()?;
    let header = json!({ "type": "Header", "sessionName": "x-session" });
    scene.rule(json!({ "sessionPersistence": header }))?;
    let url = scene.web.url_of("a");

    let first = scene.head("a", &[])?;
    let value = |head: &str, name: &str| -> Result<String> {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        Ok(line
            .with_context(|| format!("{name} in {head}"))?
            .trim()
            .to_owned())
    };
    let token = value(&first, "x-session:")?;
    let home = value(&first, "x-endpoint:")?;
    let server = scene.servers.iter().find(|one| one.name() == home);
    let ip = server.context("the endpoint")?.ip().to_string();
    let sent = format!("x-session: {token}");

    assert!(!token.contains(&ip), "{token}");
    for _ in 0..12 {
        let again = scene.head("a", &["-H", &sent])?;
        assert_eq!(value(&again, "x-endpoint:")?, home);
        assert!(!again.contains("x-session:"), "told once: {again}");
    }
    let mut others: Vec<_> = (0..12)
        .map(|_| Ok(scene.client.get(&url)?.endpoint))
        .collect::<Result<_>>()?;
    others.sort();
    others.dedup();
    assert_eq!(others.len(), 3, "without a token, in turn");

    let left = scene.servers.iter().filter(|one| one.name() != home);
    scene.web.set_endpoints(left)?;
    scene.agent.wait_endpoints(&scene.web, 2)?;
    let moved = scene.head("a", &["-H", &sent])?;
    assert_ne!(value(&moved, "x-endpoint:")?, home);
    assert_ne!(value(&moved, "x-session:")?, token);
    Ok(())
}

#[test]
fn a_session_may_be_in_a_cookie() -> Result<()> {
    let scene = Scene::new()?;
    scene.rule(json!({ "sessionPersistence": {
        "sessionName": "basket",
        "absoluteTimeout": "1h",
        "cookieConfig": { "lifetimeType": "Permanent" },
    } }))?;
    let jar = scene.node.scratch().join("jar");
    let jar = jar.to_str().context("a path in UTF-8")?;
    let url = scene.web.url_of("a");

    let first = scene.head("a", &["--cookie-jar", jar])?;
    assert!(first.contains("set-cookie: basket="), "{first}");
    assert!(first.contains("; max-age=3600"), "{first}");
    let mut endpoints = Vec::new();
    for _ in 0..12 {
        let answer = scene.client.request(&["--cookie", jar, &url])?;
        endpoints.push(answer.endpoint);
    }
    endpoints.dedup();
    assert_eq!(endpoints.len(), 1, "{endpoints:?}");
    assert!(
        first.contains(&format!("x-endpoint: {}", endpoints[0])),
        "{first}"
    );
    Ok(())
}
