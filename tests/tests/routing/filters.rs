//! Filters of rules and of their destinations.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Scene, to};

#[test]
fn headers_are_set_added_and_removed_both_ways() -> Result<()> {
    let scene = Scene::new()?;
    scene.route(&json!([{
        "filters": [
            { "type": "RequestHeaderModifier", "requestHeaderModifier": {
                "set": [{ "name": "x-set", "value": "new" }],
                "add": [{ "name": "x-add", "value": "more" }],
                "remove": ["x-remove"],
            }},
            { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
                "set": [{ "name": "x-answered", "value": "yes" }],
                "remove": ["x-peer"],
            }},
        ],
        "backendRefs": to("blue"),
    }]))?;

    let url = scene.web.url();
    let headers = [
        "-H",
        "x-set: old",
        "-H",
        "x-add: one",
        "-H",
        "x-remove: here",
    ];
    let answer = scene
        .client
        .request(&[&headers, &[url.as_str()][..]].concat())?;
    let head = scene
        .client
        .curl(&["--include", &url])?
        .success()?
        .to_lowercase();

    assert_eq!(answer.header("x-set"), "new");
    assert_eq!(answer.header("x-add"), "one, more");
    assert_eq!(answer.header("x-remove"), "");
    assert!(head.contains("x-answered: yes"), "{head}");
    assert!(!head.contains("x-peer:"), "{head}");
    assert!(
        head.contains("x-endpoint: blue-0"),
        "the control: what is not named stays: {head}"
    );
    Ok(())
}

#[test]
fn redirects_answer_without_an_endpoint() -> Result<()> {
    let scene = Scene::new()?;
    scene.route(
        &json!([{ "filters": [{ "type": "RequestRedirect", "requestRedirect": {
            "scheme": "https",
            "hostname": "example.org",
            "path": { "type": "ReplaceFullPath", "replaceFullPath": "/moved" },
            "statusCode": 301,
        }}]}]),
    )?;

    let head = scene
        .client
        .curl(&["--include", &scene.web.url_of("old")])?
        .success()?;
    let head = head.to_lowercase();

    assert!(head.starts_with("http/1.1 301"), "{head}");
    assert!(
        head.contains("location: https://example.org/moved\r"),
        "{head}"
    );
    assert!(
        !head.contains("x-endpoint"),
        "no endpoint was asked: {head}"
    );
    Ok(())
}

#[test]
fn rewrites_change_what_the_endpoint_sees() -> Result<()> {
    let scene = Scene::new()?;
    scene.route(&json!([{
        "matches": [{ "path": { "type": "PathPrefix", "value": "/api" } }],
        "filters": [{ "type": "URLRewrite", "urlRewrite": {
            "hostname": "inner.example",
            "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2" },
        }}],
        "backendRefs": to("blue"),
    }]))?;

    let answer = scene.client.get(&scene.web.url_of("api/list?x=1"))?;

    assert_eq!(answer.path, "/v2/list?x=1");
    assert_eq!(answer.authority, "inner.example");
    Ok(())
}

#[test]
fn redirects_have_a_port_and_every_status() -> Result<()> {
    let scene = Scene::new()?;
    let rule = |path: &str, redirect: Value| {
        json!({
            "matches": [{ "path": { "type": "Exact", "value": path } }],
            "filters": [{ "type": "RequestRedirect", "requestRedirect": redirect }],
        })
    };
    let other = json!([{ "path": { "type": "Exact", "value": "/stay" } }]);
    scene.route(&json!([
        rule("/port", json!({ "hostname": "a.example", "port": 8443 })),
        rule("/default", json!({ "hostname": "a.example", "scheme": "https", "port": 443 })),
        rule("/303", json!({ "hostname": "a.example", "statusCode": 303 })),
        rule("/307", json!({ "hostname": "a.example", "statusCode": 307 })),
        rule("/308", json!({ "hostname": "a.example", "statusCode": 308 })),
        { "matches": other, "backendRefs": to("blue") },
    ]))?;

    for (path, status, location) in [
        ("port", 302, "http://a.example:8443/port"),
        ("default", 302, "https://a.example/default"),
        ("303", 303, "http://a.example/303"),
        ("307", 307, "http://a.example/307"),
        ("308", 308, "http://a.example/308"),
    ] {
        let head = scene.head(path, &[])?;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert!(
            head.contains(&format!("location: {location}\r")),
            "{path}: {head}"
        );
    }
    assert_eq!(scene.endpoint("stay", &[])?, "blue-0", "the control");
    Ok(())
}

#[test]
fn a_destination_has_header_changes_of_its_own() -> Result<()> {
    let scene = Scene::new()?;
    let edits = json!([
        { "type": "RequestHeaderModifier", "requestHeaderModifier": {
            "set": [{ "name": "x-set", "value": "new" }],
            "add": [{ "name": "x-add", "value": "more" }],
            "remove": ["x-remove"],
        }},
        { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
            "add": [{ "name": "x-answered", "value": "yes" }],
        }},
    ]);
    let exact = |path: &str| json!([{ "path": { "type": "Exact", "value": path } }]);
    scene.route(&json!([
        {
            "matches": exact("/edited"),
            "backendRefs": [{ "name": "blue", "port": 80, "filters": edits }],
        },
        {
            "matches": exact("/zero"),
            "backendRefs": [
                { "name": "blue", "port": 80, "weight": 0, "filters": edits },
                { "name": "green", "port": 80 },
            ],
        },
    ]))?;
    let sent = ["-H", "x-set: old", "-H", "x-add: one", "-H", "x-remove: x"];

    for (path, expected) in [
        ("edited", ["blue-0", "new", "one, more", ""]),
        ("zero", ["green-0", "old", "one", "x"]),
    ] {
        let url = scene.web.url_of(path);
        let answer = scene.client.request(&[&sent[..], &[&url]].concat())?;
        let of = |name: &str| answer.header(name).to_owned();
        let found = [
            answer.endpoint.clone(),
            of("x-set"),
            of("x-add"),
            of("x-remove"),
        ];
        assert_eq!(found, expected, "{path}");
        let told = scene.head(path, &[])?.contains("x-answered: yes");
        assert_eq!(told, path == "edited", "{path}");
    }
    Ok(())
}
