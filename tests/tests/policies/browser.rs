//! What browsers take part in: CORS and sessions.

use anyhow::{Context, Result};
use proxy_e2e::until;
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

#[test]
fn a_script_of_an_allowed_origin_sees_why_the_agent_answered() -> Result<()> {
    let scene = Scene::new()?;
    let cors = json!({ "allowOrigins": ["https://shop.example"] });
    scene.rule(json!({ "filters": [{ "type": "CORS", "cors": cors }] }))?;
    let allowed = scene.head("reset/9/a", &["-H", "Origin: https://shop.example"])?;
    let other = scene.head("reset/9/b", &["-H", "Origin: https://other.example"])?;

    for answer in [&allowed, &other] {
        assert!(
            answer.contains("x-proxy-agent-reason: upstream_reset"),
            "{answer}"
        );
    }
    let line = "access-control-allow-origin: https://shop.example";
    assert!(allowed.contains(line), "{allowed}");
    assert!(!other.contains("access-control-"), "{other}");
    Ok(())
}

#[test]
fn a_session_ends_when_it_has_idled_and_not_before() -> Result<()> {
    let scene = Scene::new()?;
    let session = json!({ "sessionName": "basket", "idleTimeout": "2s" });
    scene.rule(json!({ "sessionPersistence": session }))?;
    let cookie = |head: &str| -> Result<String> {
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        let pair = line.and_then(|line| line.split(';').next());
        Ok(pair
            .with_context(|| format!("a cookie in {head}"))?
            .to_owned())
    };
    let endpoint = |cookie: &str| -> Result<(String, String)> {
        let sent = format!("Cookie: {cookie}");
        let answer = scene
            .client
            .request(&["-H", &sent, &scene.web.url_of("a")])?;
        Ok((answer.endpoint, scene.head("a", &["-H", &sent])?))
    };
    let first = cookie(&scene.head("a", &[])?)?;
    let (home, answer) = endpoint(&first)?;

    // Whoever takes each new token stays, for longer than the time that ends an idle session.
    let mut kept = cookie(&answer)?;
    until("the first token is too old", || {
        let (here, answer) = endpoint(&kept)?;
        anyhow::ensure!(here == home, "the session in use went to {here}");
        kept = cookie(&answer)?;
        Ok(endpoint(&first)?.0 != home)
    })
}
