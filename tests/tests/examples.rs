//! The examples, each as it stands, by traffic: what their README files say to try.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use proxy_e2e::{Agent, Load, Node, Pod, Report, until_some};
use serde_json::Value;

/// A node whose configuration is one example and the pods that it is about.
struct Scene {
    namespace: &'static str,
    agent: Agent,
    client: Pod,
    _pods: Vec<Pod>,
    _node: Node,
}

impl Scene {
    /// Pods by name, with the labels `app` and `version` and the port that they listen on.
    fn new(
        namespace: &'static str,
        folder: &str,
        pods: &[(&str, &str, &str, u16)],
    ) -> Result<Self> {
        let node = Node::new()?;
        let mut started = Vec::new();
        for (name, app, version, port) in pods {
            let pod = node.pod(name).namespace(namespace).label("app", app);
            let pod = pod.label("version", version).start()?;
            pod.serve_echo(*port)?;
            started.push(pod);
        }
        copy(&node, folder)?;
        // The example's own Namespace has it captured.
        let client = node.pod("client").namespace(namespace).start()?;
        let agent = Agent::start(&node)?;
        agent.wait_captured([&client])?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../examples")
            .join(folder);
        let folder = folder.to_str().context("a path")?;
        let verdict = agent.offline(&["validate", folder])?.success()?;
        ensure!(verdict.contains("0 errors, 0 warnings"), "{verdict}");
        Ok(Self {
            namespace,
            agent,
            client,
            _pods: started,
            _node: node,
        })
    }

    /// `http://ADDRESS` of a Service, once it has this many endpoints.
    fn url(&self, service: &str, endpoints: usize) -> Result<String> {
        let address = until_some(&format!("{service} has its endpoints"), || {
            let status = self.agent.status()?;
            let entry = self.of_service(&status, "services", "name", service)?;
            ensure!(entry["endpoints"] == endpoints, "{entry}");
            Ok(entry["addresses"][0].as_str().map(str::to_owned))
        })?;
        Ok(format!("http://{address}"))
    }

    fn of_service(&self, status: &Value, list: &str, field: &str, name: &str) -> Result<Value> {
        let all = status[list].as_array().context("a list")?;
        let found = all
            .iter()
            .find(|one| one["namespace"] == self.namespace && one[field] == name);
        found
            .cloned()
            .with_context(|| format!("no {name}: {status}"))
    }

    fn load(&self, url: &str, headers: &[&str]) -> Result<Report> {
        let load = Load::new(url).requests(200).connections(2);
        let load = headers
            .iter()
            .fold(load, |load, header| load.header(header));
        let report = self.client.load(&load)?;
        report.all_ok(200)?;
        Ok(report)
    }

    fn explained(&self, arguments: &[&str]) -> Result<String> {
        let from = format!("{}/client", self.namespace);
        let verb = ["explain", "--from", &from];
        self.agent.verb(&[&verb, arguments].concat())?.success()
    }
}

/// Copies every manifest of an example.
fn copy(node: &Node, folder: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(folder);
    for entry in fs::read_dir(&path).with_context(|| format!("read {}", path.display()))? {
        let name = entry?.file_name();
        let name = name.to_str().context("a file's name")?;
        if name.ends_with(".yaml") {
            node.config().copy(&format!("examples/{folder}/{name}"))?;
        }
    }
    Ok(())
}

/// Five standard deviations around a share of 200 requests.
fn near(count: u64, share: f64) -> bool {
    let deviation = (200.0 * share * (1.0 - share)).sqrt();
    (count as f64 - 200.0 * share).abs() <= 5.0 * deviation
}

#[test]
fn bookinfo_shows_versions_by_user_and_by_weight_and_breaks_for_some() -> Result<()> {
    let scene = Scene::new(
        "bookinfo",
        "bookinfo",
        &[
            ("reviews-v1", "reviews", "v1", 9080),
            ("reviews-v2", "reviews", "v2", 9080),
            ("reviews-v3", "reviews", "v3", 9080),
            ("ratings-v1", "ratings", "v1", 9080),
        ],
    )?;
    let (reviews, ratings) = (scene.url("reviews", 3)?, scene.url("ratings", 1)?);

    let everybody = scene.load(&reviews, &[])?;
    let jason = scene.load(&reviews, &["end-user: jason"])?;
    let failing = scene
        .client
        .curl(&["-i", "-H", "end-user: jason", &ratings])?
        .stdout;

    assert!(
        near(everybody.of("reviews-v3"), 0.2),
        "{:?}",
        everybody.by_endpoint
    );
    assert_eq!(everybody.of("reviews-v2"), 0, "{:?}", everybody.by_endpoint);
    assert_eq!(jason.of("reviews-v2"), 200, "{:?}", jason.by_endpoint);
    assert!(
        failing.contains(" 500 ") && failing.contains("fault_abort"),
        "{failing}"
    );
    assert_eq!(scene.client.status(&[&ratings])?, 200);
    let hasty = ["--max-time", "1", "-H", "end-user: tester-1"];
    let hasty = scene
        .client
        .curl(&[&hasty, &[ratings.as_str()][..]].concat())?;
    assert!(!hasty.status.success(), "held back for two seconds");
    let line = [
        "-H",
        "end-user: jason",
        "GET",
        "http://reviews.bookinfo:9080/",
    ];
    let explained = scene.explained(&line)?;
    assert!(explained.contains("reviews:9080|v2"), "{explained}");
    Ok(())
}

#[test]
fn booksapp_retries_within_a_budget_and_shares_by_weight() -> Result<()> {
    let scene = Scene::new(
        "booksapp",
        "booksapp",
        &[
            ("authors-0", "authors", "v1", 7001),
            ("authors-next-0", "authors-next", "v1", 7001),
            ("books-0", "books", "v1", 7002),
        ],
    )?;
    let authors = scene.url("authors", 1)?;
    scene.url("authors-next", 1)?;
    scene.url("books", 1)?;

    let report = scene.load(&format!("{authors}/authors/1.json"), &[])?;

    assert!(
        near(report.of("authors-next-0"), 0.1),
        "{:?}",
        report.by_endpoint
    );
    for (line, words, there) in [
        (
            ["HEAD", "http://authors.booksapp:7001/authors/1.json"],
            "20 % of the requests",
            true,
        ),
        (
            ["GET", "http://authors.booksapp:7001/authors/1.json"],
            "20 % of the requests",
            false,
        ),
        (
            ["GET", "http://authors.booksapp:7001/authors/1.json"],
            "request timeout 2s",
            true,
        ),
        (
            ["DELETE", "http://authors.booksapp:7001/authors/1.json"],
            "spec.routes[2]",
            true,
        ),
        (
            ["GET", "http://books.booksapp:7002/books/1.json"],
            "counts 404, 500 to 599",
            true,
        ),
        (
            ["PUT", "http://books.booksapp:7002/books/1.json"],
            "request timeout 250ms",
            true,
        ),
    ] {
        let explained = scene.explained(&line)?;
        assert_eq!(explained.contains(words), there, "{line:?}: {explained}");
    }
    Ok(())
}

#[test]
fn emojivoto_routes_by_linkerds_own_objects() -> Result<()> {
    let scene = Scene::new(
        "emojivoto",
        "emojivoto",
        &[
            ("web-0", "web-svc", "v1", 8080),
            ("emoji-0", "emoji-svc", "v1", 8080),
            ("voting-0", "voting-svc", "v1", 8080),
            ("ballots-0", "ballots", "v1", 5432),
        ],
    )?;
    let (web, ballots) = (scene.url("web-svc", 1)?, scene.url("ballots", 1)?);

    let listed = scene.client.get(&format!("{web}/api/list"))?;

    assert_eq!(listed.header("x-api"), "v1");
    assert_eq!(scene.client.status(&[&format!("{web}/other")])?, 404);
    assert_eq!(scene.client.status(&[&ballots])?, 200);
    let status = scene.agent.status()?;
    assert_eq!(
        scene.of_service(&status, "services", "name", "ballots")?["mode"],
        "direct"
    );
    assert_eq!(
        scene.of_service(&status, "services", "name", "web-svc")?["mode"],
        "http"
    );
    for (url, words, there) in [
        (
            "http://emoji-svc.emojivoto:8080/emojivoto.v1.EmojiService/ListAll",
            "gRPC 14",
            true,
        ),
        (
            "http://voting-svc.emojivoto:8080/emojivoto.v1.VotingService/VoteDoughnut",
            "request timeout 1s",
            true,
        ),
        (
            "http://voting-svc.emojivoto:8080/emojivoto.v1.VotingService/VoteDoughnut",
            "tries up to",
            false,
        ),
        (
            "http://voting-svc.emojivoto:8080/emojivoto.v1.VotingService/Results",
            "tries up to",
            true,
        ),
    ] {
        let explained = scene.explained(&["POST", url])?;
        assert_eq!(explained.contains(words), there, "{url}: {explained}");
    }
    Ok(())
}

#[test]
fn the_gateway_apis_example_redirects_rewrites_and_shares() -> Result<()> {
    let pods = [
        ("shop-0", "shop", "v1", 8080),
        ("next-0", "shop-next", "v2", 8080),
    ];
    let scene = Scene::new("shop", "gateway-api", &pods)?;
    let shop = scene.url("shop", 1)?;
    scene.url("shop-next", 1)?;

    let moved = scene
        .client
        .curl(&["-i", &format!("{shop}/catalogue/1")])?
        .stdout;
    let carts = scene.client.get(&format!("{shop}/api/carts"))?;
    let testers = scene.load(&shop, &["x-tester: yes"])?;
    let others = scene.load(&shop, &[])?;

    assert!(
        moved.contains(" 301 ") && moved.contains("/books/1"),
        "{moved}"
    );
    assert_eq!(carts.path, "/v1/carts");
    assert_eq!(testers.of("next-0"), 200, "{:?}", testers.by_endpoint);
    assert!(near(others.of("next-0"), 0.1), "{:?}", others.by_endpoint);
    Ok(())
}

#[test]
fn the_split_is_for_firefox_alone() -> Result<()> {
    let pods = [
        ("now-0", "website", "v1", 8080),
        ("next-0", "website-next", "v2", 8080),
    ];
    let scene = Scene::new("website", "smi", &pods)?;
    let website = scene.url("website", 1)?;
    scene.url("website-next", 1)?;

    let firefox = scene.load(&website, &["user-agent: Mozilla/5.0 Firefox/140.0"])?;
    let others = scene.load(&website, &["user-agent: curl"])?;

    assert!(near(firefox.of("next-0"), 0.5), "{:?}", firefox.by_endpoint);
    assert_eq!(others.of("next-0"), 0, "{:?}", others.by_endpoint);
    Ok(())
}
