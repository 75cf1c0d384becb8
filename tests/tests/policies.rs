//! What rules do to requests beside routing them, by traffic: retry, mirror, CORS, sessions.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use proxy_e2e::echo::Answer;
use proxy_e2e::manifest::http_route;
use proxy_e2e::{Agent, Load, Node, Pod, Service, until};
use serde_json::{Value, json};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// A pod with the server that fails as it is told.
fn moody_pod(node: &Node, name: &str) -> Result<Pod> {
    let pod = node.pod(name).start()?;
    let mut command = Command::new("/usr/bin/python3");
    command.args([&format!("{FIXTURES}/moody_server.py"), name, "8080"]);
    let mut server = pod.spawn("moody", command)?;
    server.wait_for_output("ready")?;
    pod.keep(server);
    Ok(pod)
}

/// Service `web` with three endpoints and `shadow` with one, and a captured client.
struct Scene {
    agent: Agent,
    client: Pod,
    web: Service,
    servers: Vec<Pod>,
    shadow: Pod,
    _shadow: Service,
    node: Node,
}

impl Scene {
    fn new() -> Result<Self> {
        let node = Node::new()?;
        let names = ["web-0", "web-1", "web-2"];
        let servers = names.map(|name| moody_pod(&node, name));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        let web = node.service("web").round_robin().to(&servers)?;
        let shadow = moody_pod(&node, "shadow-0")?;
        let service = node.service("shadow").to([&shadow])?;
        let client = node.pod("client").captured().start()?;
        let agent = Agent::start(&node)?;
        agent.wait_captured([&client])?;
        agent.wait_endpoints(&web, 3)?;
        agent.wait_endpoints(&service, 1)?;
        Ok(Self {
            agent,
            client,
            web,
            servers,
            shadow,
            _shadow: service,
            node,
        })
    }

    /// Puts a route of one rule to `web` on it, with more fields, and waits until it is in force.
    fn rule(&self, fields: Value) -> Result<()> {
        let mut rule = json!({ "backendRefs": [{ "name": "web", "port": 80 }] });
        let more = fields.as_object().context("fields are a map")?;
        rule.as_object_mut()
            .context("a rule is a map")?
            .extend(more.clone());
        self.put(&http_route("route", "web", &json!([rule])))
    }

    fn put(&self, object: &Value) -> Result<()> {
        let version = self.version()?;
        let objects = std::slice::from_ref(object);
        self.node.config().put("route.json", objects)?;
        until("the route is in force", || Ok(self.version()? > version))?;
        let status = self.agent.status()?;
        ensure!(status["overview"]["errors"] == 0, "{}", status["problems"]);
        Ok(())
    }

    fn version(&self) -> Result<u64> {
        let status = self.agent.status()?;
        let version = status["overview"]["snapshot_version"].as_u64();
        version.context("a snapshot version")
    }

    /// Requests for `path` that the endpoints of `web` have seen.
    fn seen(&self, path: &str) -> Result<Vec<Answer>> {
        let mut all = Vec::new();
        for server in &self.servers {
            all.extend(seen_by(server, path)?);
        }
        Ok(all)
    }

    fn status(&self, path: &str, arguments: &[&str]) -> Result<u16> {
        let url = self.web.url_of(path);
        self.client.status(&[arguments, &[&url]].concat())
    }

    /// The head of an answer as curl shows it, lower case.
    fn head(&self, path: &str, arguments: &[&str]) -> Result<String> {
        let url = self.web.url_of(path);
        let shown = ["--dump-header", "-", "--output", "/dev/null"];
        let head = self
            .client
            .curl(&[&shown, arguments, &[&url]].concat())?
            .success()?;
        Ok(head.to_lowercase())
    }

    fn metric(&self, line: &str) -> Result<u64> {
        let metrics = self.agent.metrics()?;
        let mut found = metrics.lines().filter_map(|one| one.strip_prefix(line));
        let value = found.next().unwrap_or("0").trim();
        value.parse().with_context(|| format!("{line} is {value}"))
    }
}

fn seen_by(server: &Pod, path: &str) -> Result<Vec<Answer>> {
    let all = server.curl(&["http://127.0.0.1:8080/seen"])?.success()?;
    let all: Vec<Answer> = serde_json::from_str(&all)?;
    Ok(all.into_iter().filter(|one| one.path == path).collect())
}

#[test]
fn a_code_that_the_rule_names_is_tried_again_elsewhere_and_no_other() -> Result<()> {
    let scene = Scene::new()?;
    assert_eq!(scene.status("fail/503/1/without", &[])?, 503);

    scene.rule(json!({ "retry": { "attempts": 3, "codes": [503] } }))?;

    // Each endpoint fails its first: the fourth try is the first that is answered.
    assert_eq!(scene.status("fail/503/1/a", &[])?, 200);
    let seen = scene.seen("/fail/503/1/a")?;
    let mut endpoints: Vec<_> = seen.iter().map(|one| &one.endpoint).collect();
    endpoints.sort();
    endpoints.dedup();
    assert_eq!((seen.len(), endpoints.len()), (4, 3), "{seen:?}");
    assert_eq!(scene.status("fail/503/2/b", &[])?, 503, "the last try's");
    assert_eq!(scene.status("fail/500/1/c", &[])?, 500);
    assert_eq!(scene.seen("/fail/500/1/c")?.len(), 1);
    let retries = r#"proxy_agent_retries_total{cluster="default/web:80"} "#;
    assert_eq!(scene.metric(retries)?, 6);
    Ok(())
}

#[test]
fn a_body_is_sent_again_whole_or_not_at_all() -> Result<()> {
    let scene = Scene::new()?;
    scene.rule(json!({ "retry": { "attempts": 3, "codes": [503] } }))?;
    let small = "x".repeat(60_000);
    let large = scene.node.scratch().join("large");
    std::fs::write(&large, vec![b'x'; 200_000])?;
    let large = format!("@{}", large.display());

    assert_eq!(scene.status("fail/503/1/a", &["--data", &small])?, 200);
    let chunked = ["-H", "Transfer-Encoding: chunked", "--data", &small];
    assert_eq!(scene.status("fail/503/1/b", &chunked)?, 200);
    let beyond = ["--data-binary", large.as_str()];
    assert_eq!(scene.status("fail/503/1/c", &beyond)?, 503);

    for (path, tries, bytes) in [("a", 4, 60_000), ("b", 4, 60_000), ("c", 1, 200_000)] {
        let seen = scene.seen(&format!("/fail/503/1/{path}"))?;
        let sizes: Vec<_> = seen.iter().map(|one| one.body_bytes).collect();
        assert_eq!(sizes, vec![bytes; tries], "{path}");
    }
    let withheld = r#"proxy_agent_retries_withheld_total{cluster="default/web:80"} "#;
    assert_eq!(scene.metric(withheld)?, 1);
    Ok(())
}

#[test]
fn a_try_that_is_reset_or_too_slow_is_followed_by_another() -> Result<()> {
    let scene = Scene::new()?;
    assert_eq!(scene.status("reset/1/without", &["--data", "x"])?, 502);

    let timeouts = json!({ "backendRequest": "300ms" });
    scene.rule(json!({ "timeouts": timeouts }))?;
    assert_eq!(scene.status("slow/1/without", &[])?, 504);
    scene.rule(json!({ "timeouts": timeouts, "retry": { "attempts": 3 } }))?;

    assert_eq!(scene.status("reset/1/a", &["--data", "x"])?, 200);
    assert_eq!(scene.seen("/reset/1/a")?.len(), 4);
    assert_eq!(scene.status("slow/1/a", &[])?, 200);
    assert_eq!(scene.seen("/slow/1/a")?.len(), 4);
    Ok(())
}

#[test]
fn the_whole_requests_time_bounds_all_of_its_tries() -> Result<()> {
    let scene = Scene::new()?;
    let timeouts = json!({ "request": "500ms", "backendRequest": "200ms" });
    scene.rule(json!({ "timeouts": timeouts, "retry": { "attempts": 50 } }))?;

    let head = scene.head("slow/99/a", &[])?;

    assert!(head.contains(" 504 "), "{head}");
    assert!(
        head.contains("x-proxy-agent-reason: timeout_request"),
        "{head}"
    );
    let tries = scene.seen("/slow/99/a")?.len();
    assert!(
        (2..=3).contains(&tries),
        "{tries} tries of 200 ms in 500 ms"
    );
    Ok(())
}

#[test]
fn retries_of_a_cluster_that_fails_as_a_whole_are_bounded() -> Result<()> {
    let scene = Scene::new()?;
    scene.rule(json!({ "retry": { "attempts": 10, "codes": [503], "backoff": "50ms" } }))?;
    let load = Load::new(&scene.web.url_of("fail/503/100000/a"));

    let report = scene.client.load(&load.requests(200).connections(50))?;

    assert_eq!(report.by_status.get(&503), Some(&200), "{report:?}");
    let tries = scene.seen("/fail/503/100000/a")?.len();
    assert!(
        (201..1_200).contains(&tries),
        "{tries} tries, 2,200 were there no budget"
    );
    let withheld = r#"proxy_agent_retries_withheld_total{cluster="default/web:80"} "#;
    assert!(scene.metric(withheld)? > 0);
    Ok(())
}

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
    let scene = Scene::new()?;
    scene.rule(json!({ "filters": [mirror(&json!({ "percent": 25 }))] }))?;

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
