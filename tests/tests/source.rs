//! What is wrong in the directory of manifests: one clear line each, and the rest goes on.

use anyhow::Result;
use proxy_e2e::manifest::http_route;
use proxy_e2e::{Scene, until};
use serde_json::json;
use std::fs;

/// Requires that the mesh works by the agent.
fn works(scene: &Scene) -> Result<()> {
    assert_eq!(scene.client.get(&scene.web.url())?.endpoint, "web-0");
    assert_eq!(scene.web.packets()?, 0, "by the agent");
    Ok(())
}

/// Writes a file, requires one problem in `status` and in the log that has all these texts,
/// that the rest works, and that the problem goes with the file.
fn spoil(scene: &Scene, file: &str, text: &str, expected: &[&str]) -> Result<()> {
    let clean = problems(scene)?;
    scene.node.config().put_text(file, text)?;
    scene.agent.wait_problem(&[&[file], expected].concat())?;
    until("the log says it in one line", || {
        let log = scene.agent.log();
        let all = |line: &&str| {
            [&[file], expected]
                .concat()
                .iter()
                .all(|t| line.contains(t))
        };
        Ok(log.lines().filter(all).count() == 1)
    })?;
    works(scene)?;
    scene.node.config().remove(file)?;
    until("the problem is gone with its file", || {
        Ok(problems(scene)? == clean)
    })?;
    works(scene)
}

fn problems(scene: &Scene) -> Result<usize> {
    Ok(scene.agent.status()?["problems"]
        .as_array()
        .map_or(0, Vec::len))
}

#[test]
fn a_malformed_document_is_named_with_its_file() -> Result<()> {
    let scene = Scene::new(1)?;
    spoil(
        &scene,
        "broken.yaml",
        "apiVersion: v1\nkind: [Service\n",
        &[],
    )?;
    spoil(&scene, "broken.json", "{\"apiVersion\": \"v1\",", &[])
}

#[test]
fn an_unknown_field_is_named_with_its_path() -> Result<()> {
    let scene = Scene::new(1)?;
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: typo}\n\
                   spec:\n  ports: [{port: 80, targetPrt: 8080}]\n";
    spoil(&scene, "typo.yaml", service, &["typo", "targetPrt"])
}

#[test]
fn a_wrong_value_is_named_with_its_path() -> Result<()> {
    let scene = Scene::new(1)?;
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: wrong}\n\
                   spec:\n  ports: [{port: eighty}]\n";
    spoil(
        &scene,
        "wrong.yaml",
        service,
        &["wrong", "spec.ports[0].port"],
    )
}

#[test]
fn a_route_to_a_missing_service_is_named() -> Result<()> {
    let scene = Scene::new(1)?;
    let rules = json!([{
        "matches": [{ "path": { "type": "Exact", "value": "/nowhere" } }],
        "backendRefs": [{ "name": "nowhere", "port": 80 }],
    }, {
        "backendRefs": [{ "name": "web", "port": 80 }],
    }]);
    let route = http_route("lost", "web", &rules).to_string();
    spoil(
        &scene,
        "lost.json",
        &route,
        &["lost", "spec.rules[0].backendRefs[0]", "nowhere"],
    )
}

#[test]
fn a_duplicate_is_named_with_both_places() -> Result<()> {
    let scene = Scene::new(1)?;
    let twin = scene.web.object().to_string();
    spoil(&scene, "twin.json", &twin, &["web", &scene.web.file()])
}

#[test]
fn an_unknown_kind_is_listed_and_harms_nobody() -> Result<()> {
    let scene = Scene::new(1)?;
    let text = "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w}\nspec: {}\n";
    scene.node.config().put_text("widget.yaml", text)?;
    until("status lists the kind", || {
        Ok(scene.agent.status()?["unknown_kinds"]
            .to_string()
            .contains("Widget"))
    })?;
    works(&scene)
}

#[test]
fn an_empty_file_is_no_reason_to_stop() -> Result<()> {
    let scene = Scene::new(1)?;
    spoil(&scene, "empty.yaml", "", &[])
}

#[test]
fn a_file_of_ten_megabytes_is_told_of_and_the_rest_works() -> Result<()> {
    let scene = Scene::new(1)?;
    let text = format!("# {}\n", "x".repeat(10 << 20));
    spoil(&scene, "huge.yaml", &text, &[])
}

#[test]
fn a_file_half_written_leaves_the_last_good_version_in_force() -> Result<()> {
    let scene = Scene::new(1)?;
    let path = scene.node.config().path().join(scene.web.file());
    let whole = fs::read_to_string(&path)?;

    // In place, as an editor without care writes it.
    fs::write(&path, &whole[..whole.len() / 2])?;
    scene.agent.wait_problem(&[&scene.web.file()])?;
    works(&scene)?;

    fs::write(&path, &whole)?;
    until("the problem is gone", || Ok(problems(&scene)? == 0))?;
    works(&scene)
}

#[test]
fn a_deleted_directory_leaves_the_last_good_version_in_force() -> Result<()> {
    let scene = Scene::new(1)?;
    let (config, aside) = (
        scene.node.config().path(),
        scene.node.scratch().join("aside"),
    );
    fs::rename(config, &aside)?;
    until("status tells of the directory", || {
        let status = scene.agent.status()?;
        let trouble = status["overview"]["sources"][0]["trouble"].as_str();
        Ok(trouble.is_some_and(|trouble| !trouble.is_empty()))
    })?;
    works(&scene)?;

    fs::rename(&aside, config)?;
    until("the trouble is over", || {
        Ok(scene.agent.status()?["overview"]["sources"][0]["trouble"] == "")
    })?;
    works(&scene)?;
    let more = scene.node.service("more").to([])?;
    scene.agent.wait_endpoints(&more, 0)
}

#[test]
fn validate_finds_what_status_shows() -> Result<()> {
    let scene = Scene::new(1)?;
    let good = scene
        .node
        .config()
        .path()
        .to_str()
        .unwrap_or_default()
        .to_owned();
    let bad = scene.node.scratch().join("bad.yaml");
    fs::write(
        &bad,
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: 80}\n",
    )?;
    let bad = bad.to_str().unwrap_or_default();

    let passed = scene.agent.offline(&["validate", &good])?;
    let failed = scene.agent.offline(&["validate", bad])?;

    passed.success()?;
    assert_eq!(failed.status.code(), Some(1));
    let text = failed.stdout + &failed.stderr;
    assert!(
        text.contains("bad.yaml") && text.contains("spec.ports"),
        "{text}"
    );
    Ok(())
}
