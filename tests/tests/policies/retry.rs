//! Requests that are sent again.

use anyhow::Result;
use proxy_e2e::Load;
use proxy_e2e::manifest::http_route;
use serde_json::json;

use crate::scene::Scene;

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

#[test]
fn a_rule_without_a_budget_for_retries_leaves_none_to_the_clients_that_see_it() -> Result<()> {
    let scene = Scene::new()?;
    let stranger = scene.node.pod("stranger").namespace("blog").captured();
    let stranger = stranger.start()?;
    scene.agent.wait_captured([&stranger])?;
    let retry = json!({ "attempts": 2, "codes": [503], "backoff": "1ms" });
    let to_web = json!([{ "name": "web", "port": 80 }]);
    let rules = json!([{ "retry": retry, "backendRefs": to_web }]);
    let rule = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": { "namespace": "default", "name": "web" },
        "spec": {
            "host": "web",
            "exportTo": ["."],
            "trafficPolicy": { "retryBudget": { "percent": 0, "minRetryConcurrency": 0 } },
        },
    });
    scene.put_all(&[http_route("route", "web", &rules), rule])?;

    assert_eq!(scene.status("fail/503/99/own", &[])?, 503);
    assert_eq!(scene.seen("/fail/503/99/own")?.len(), 1, "no retry");
    let url = scene.web.url_of("fail/503/99/other");
    assert_eq!(stranger.status(&[&url])?, 503);
    assert_eq!(scene.seen("/fail/503/99/other")?.len(), 3, "two retries");
    Ok(())
}
