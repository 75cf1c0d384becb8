//! A rule that cannot be read fails alone, and is named everywhere.

use anyhow::{Context, Result};
use proxy_e2e::manifest::http_route;
use serde_json::json;

use super::{Scene, to};

#[test]
fn a_rule_that_cannot_be_read_answers_500_and_the_others_work() -> Result<()> {
    let scene = Scene::new()?;
    let prefix = |value: &str| json!([{ "path": { "type": "PathPrefix", "value": value } }]);
    let rules = |more: &str| {
        json!([
            { "matches": prefix("/a"), "backendRefs": to("blue") },
            { "matches": prefix("/b"), "backendRefs": to("green"), more: [{ "type": "RateLimit" }] },
        ])
    };
    let good = json!([
        { "matches": prefix("/a"), "backendRefs": to("green") },
        { "matches": prefix("/b"), "backendRefs": to("green") },
    ]);
    for (more, field, reason) in [
        (
            "filters",
            "spec.rules[1].filters[0].type",
            "unknown variant",
        ),
        (
            "filter",
            "spec.rules[1].filter",
            "unknown field; accepted: ",
        ),
    ] {
        scene.route(&good)?;
        assert_eq!(scene.endpoint("b/x", &[])?, "green-0", "the control");
        scene.put(&[http_route("route", "web", &rules(more))])?;

        assert_eq!(scene.endpoint("a/x", &[])?, "blue-0", "as it stands now");
        let head = scene.head("b/x", &[])?;
        assert!(
            head.starts_with("http/1.1 500")
                && head.contains("x-proxy-agent-reason: invalid_route"),
            "{head}"
        );
        assert_eq!(scene.client.status(&[&scene.web.url_of("c")])?, 404);
        scene
            .agent
            .wait_problem(&[field, reason, "the rule answers 500"])?;
        let folder = scene.node.config().path();
        let folder = folder.to_str().context("a path in UTF-8")?;
        let checked = scene.agent.offline(&["validate", folder])?;
        let shown = checked.stdout + &checked.stderr;
        assert!(!checked.status.success(), "{shown}");
        assert!(
            shown.contains(field) && shown.contains("the rule answers 500"),
            "{shown}"
        );
    }
    Ok(())
}
