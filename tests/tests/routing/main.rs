//! HTTPRoutes by traffic: matches, weights, filters, failure answers.

mod explain;
mod filters;
mod matches;
mod order;
mod references;
mod unread;

use anyhow::Result;
use proxy_e2e::manifest::http_route;
use proxy_e2e::{Agent, Load, Node, Pod, Service};
use serde_json::{Value, json};

/// A node with Services `web`, `blue` and `green` of one endpoint each, and a captured client.
struct Scene {
    agent: Agent,
    client: Pod,
    web: Service,
    pods: Vec<Pod>,
    node: Node,
}

impl Scene {
    fn new() -> Result<Self> {
        let node = Node::new()?;
        let mut pods = Vec::new();
        for name in ["web", "blue", "green"] {
            let pod = node.echo_pod(&format!("{name}-0"))?;
            let service = node.service(name).to([&pod])?;
            pods.push((pod, service));
        }
        let client = node.pod("client").captured().start()?;
        let agent = Agent::start(&node)?;
        agent.wait_captured([&client])?;
        let mut services = Vec::new();
        let mut kept = Vec::new();
        for (pod, service) in pods {
            agent.wait_endpoints(&service, 1)?;
            kept.push(pod);
            services.push(service);
        }
        let web = services.swap_remove(0);
        Ok(Self {
            agent,
            client,
            web,
            pods: kept,
            node,
        })
    }

    /// Puts a route on `web` and waits until it is in force.
    fn route(&self, rules: &Value) -> Result<()> {
        self.put(&[http_route("route", "web", rules)])
    }

    /// Puts these objects in place of those before and waits until they are in force.
    fn put(&self, objects: &[Value]) -> Result<()> {
        self.agent.put(self.node.config(), "route.yaml", objects)
    }

    /// The head of an answer, lower case.
    fn head(&self, path: &str, arguments: &[&str]) -> Result<String> {
        let url = self.web.url_of(path);
        let shown = ["--dump-header", "-", "--output", "/dev/null"];
        let head = self
            .client
            .curl(&[&shown, arguments, &[&url]].concat())?
            .success()?;
        Ok(head.to_lowercase())
    }

    fn endpoint(&self, path: &str, arguments: &[&str]) -> Result<String> {
        let url = self.web.url_of(path);
        Ok(self
            .client
            .request(&[arguments, &[&url]].concat())?
            .endpoint)
    }
}

fn to(service: &str) -> Value {
    json!([{ "name": service, "port": 80 }])
}

#[test]
fn without_a_route_the_service_itself_answers_every_path() -> Result<()> {
    let scene = Scene::new()?;
    for path in ["", "a", "a/b?c=d"] {
        assert_eq!(scene.endpoint(path, &[])?, "web-0", "{path}");
    }
    assert_eq!(scene.web.packets()?, 0);
    Ok(())
}

#[test]
fn paths_headers_methods_and_queries_choose_the_service() -> Result<()> {
    let scene = Scene::new()?;
    let path = |kind: &str, value: &str| json!({ "type": kind, "value": value });
    scene.route(&json!([
        { "matches": [{ "path": path("PathPrefix", "/foo") }], "backendRefs": to("blue") },
        { "matches": [{ "path": path("Exact", "/foo/exact") }], "backendRefs": to("green") },
        {
            "matches": [{ "headers": [{ "name": "x-color", "value": "green" }] }],
            "backendRefs": to("green"),
        },
        { "matches": [{ "method": "PUT" }], "backendRefs": to("blue") },
        {
            "matches": [{ "queryParams": [{ "name": "color", "value": "green" }] }],
            "backendRefs": to("green"),
        },
        { "matches": [{ "path": path("Exact", "/own") }], "backendRefs": to("web") },
    ]))?;

    assert_eq!(scene.endpoint("foo", &[])?, "blue-0");
    assert_eq!(scene.endpoint("foo/x", &[])?, "blue-0");
    assert_eq!(scene.endpoint("foo/exact", &[])?, "green-0");
    assert_eq!(scene.endpoint("any", &["-H", "X-Color: green"])?, "green-0");
    assert_eq!(scene.endpoint("any", &["-X", "PUT"])?, "blue-0");
    assert_eq!(scene.endpoint("any?a=b&color=green", &[])?, "green-0");
    assert_eq!(scene.endpoint("own", &[])?, "web-0");
    for unmatched in ["foobar", "", "own/more", "any?color=red"] {
        let status = scene.client.status(&[&scene.web.url_of(unmatched)])?;
        assert_eq!(
            status, 404,
            "{unmatched}: a route replaces the Service's own behaviour"
        );
    }
    Ok(())
}

#[test]
fn a_rule_may_have_a_name_and_is_shown_by_it() -> Result<()> {
    let scene = Scene::new()?;
    let green = json!([{ "headers": [{ "name": "x-color", "value": "green" }] }]);
    scene.route(&json!([
        { "name": "canary", "matches": green, "backendRefs": to("green") },
        { "backendRefs": to("blue") },
    ]))?;

    let header = "X-Color: green";
    assert_eq!(scene.endpoint("a", &["-H", header])?, "green-0");
    assert_eq!(scene.endpoint("a", &[])?, "blue-0");
    let url = scene.web.url();
    let explain = ["explain", "--from", "default/client", "GET", &url];
    for (more, named) in [(&["-H", header][..], true), (&[], false)] {
        let shown = scene.agent.verb(&[&explain[..], more].concat())?;
        let shown = shown.success()?;
        let route = shown.lines().find(|line| line.starts_with("route"));
        let route = route.unwrap_or_default();
        assert_eq!(route.contains("rules[0] (canary)"), named, "{shown}");
    }
    Ok(())
}

#[test]
fn no_spelling_of_a_path_gets_around_a_rule() -> Result<()> {
    let scene = Scene::new()?;
    let sent = |path: &str| {
        let url = scene.web.url_of(path);
        scene.client.request(&["--path-as-is", &url])
    };
    assert_eq!(sent("/a/../%61")?.path, "//a/../%61", "no route, no change");

    let prefix = |value: &str| json!([{ "path": { "type": "PathPrefix", "value": value } }]);
    scene.route(&json!([
        { "matches": prefix("/admin"), "backendRefs": to("blue") },
        { "matches": prefix("/"), "backendRefs": to("green") },
    ]))?;

    for (path, expected) in [
        ("admin", "/admin"),
        ("x/../admin", "/admin"),
        ("../../admin/x", "/admin/x"),
        ("/admin//x", "/admin/x"),
        ("./%61dmin?q=/../b//%61", "/admin?q=/../b//%61"),
        ("x/%2e%2E/admin", "/admin"),
    ] {
        let answer = sent(path)?;
        assert_eq!(
            (&*answer.endpoint, &*answer.path),
            ("blue-0", expected),
            "{path}"
        );
    }
    for (path, expected) in [("admin%2Fx", "/admin%2Fx"), ("admin/../x", "/x")] {
        let answer = sent(path)?;
        assert_eq!(
            (&*answer.endpoint, &*answer.path),
            ("green-0", expected),
            "{path}"
        );
    }
    assert_eq!(scene.client.status(&[&scene.web.url_of("admin/%00")])?, 400);
    Ok(())
}

#[test]
fn weights_share_the_requests_out() -> Result<()> {
    let scene = Scene::new()?;
    scene.route(&json!([{ "backendRefs": [
        { "name": "blue", "port": 80, "weight": 80 },
        { "name": "green", "port": 80, "weight": 20 },
        { "name": "web", "port": 80, "weight": 0 },
    ]}]))?;

    let load = Load::new(&scene.web.url()).requests(1_000).connections(4);
    let report = scene.client.load(&load)?;

    report.all_ok(1_000)?;
    // Five standard deviations of a binomial share of 20 %: 5 × sqrt(1,000 × 0.2 × 0.8) = 63.
    let green = report.of("green-0");
    assert!((137..=263).contains(&green), "{:?}", report.by_endpoint);
    assert_eq!(report.of("web-0"), 0, "weight 0 gets nothing");
    Ok(())
}

#[test]
fn failures_have_a_status_and_a_reason() -> Result<()> {
    let scene = Scene::new()?;
    let empty = scene.node.service("empty").to([])?;
    scene.agent.wait_endpoints(&empty, 0)?;
    let exact = |path: &str| json!([{ "path": { "type": "Exact", "value": path } }]);
    scene.route(&json!([
        { "matches": exact("/empty"), "backendRefs": to("empty") },
        { "matches": exact("/missing"), "backendRefs": to("no-such-service") },
        {
            "matches": exact("/delay/3000"),
            "timeouts": { "request": "200ms" },
            "backendRefs": to("blue"),
        },
        { "matches": exact("/abort"), "backendRefs": to("blue") },
        { "matches": exact("/fine"), "backendRefs": to("blue") },
    ]))?;

    let cases = [
        ("empty", 503),
        ("missing", 500),
        ("delay/3000", 504),
        ("abort", 502),
        ("x", 404),
    ];
    for (path, expected) in cases {
        let url = scene.web.url_of(path);
        let head = scene
            .client
            .curl(&["--include", &url])?
            .success()?
            .to_lowercase();
        assert!(
            head.starts_with(&format!("http/1.1 {expected}")),
            "{path}: {head}"
        );
        let reason = head
            .lines()
            .find_map(|line| line.strip_prefix("x-proxy-agent-reason: "));
        assert!(
            reason.is_some_and(|reason| !reason.trim().is_empty()),
            "{path}: {head}"
        );
    }
    assert_eq!(scene.endpoint("fine", &[])?, "blue-0");
    let direct = scene.client.status(&[&empty.url()])?;
    assert_eq!(direct, 503, "a Service without endpoints");
    Ok(())
}

#[test]
fn a_change_of_routes_takes_effect_without_a_failed_request() -> Result<()> {
    let scene = Scene::new()?;
    scene.route(&json!([{ "backendRefs": to("blue") }]))?;
    let kept = scene
        .client
        .start_load(&Load::new(&scene.web.url()).connections(4))?;
    let fresh = Load::new(&scene.web.url()).fresh().pause_ms(1);
    let fresh = scene.client.start_load(&fresh)?;
    kept.wait_answers(100)?;

    for service in ["green", "blue", "green", "blue", "green"] {
        scene.route(&json!([{ "backendRefs": to(service) }]))?;
        kept.wait_answers(kept.answers() + 50)?;
        fresh.wait_answers(fresh.answers() + 20)?;
        assert_eq!(scene.endpoint("", &[])?, format!("{service}-0"));
    }

    for load in [kept, fresh] {
        let report = load.stop()?;
        report.flawless()?;
        assert_eq!(
            report.by_endpoint.len(),
            2,
            "both had some: {:?}",
            report.by_endpoint
        );
    }
    Ok(())
}
