//! Matches by expression, and routes of the older version.

use anyhow::Result;
use proxy_e2e::manifest::http_route;
use serde_json::json;

use super::{Scene, to};

#[test]
fn expressions_match_all_of_a_path_a_header_and_a_parameter() -> Result<()> {
    let scene = Scene::new()?;
    let expression = |value: &str| json!({ "type": "RegularExpression", "value": value });
    let named = |name: &str, value: &str| json!([{ "type": "RegularExpression", "name": name, "value": value }]);
    scene.route(&json!([
        { "matches": [{ "path": expression(r"/items/\d+(/.*)?") }], "backendRefs": to("blue") },
        { "matches": [{ "headers": named("x-color", "gr(e|a)y|green") }], "backendRefs": to("green") },
        { "matches": [{ "queryParams": named("id", "[0-9]{2}") }], "backendRefs": to("web") },
    ]))?;

    for (path, header, expected) in [
        ("items/12", "x-a: b", "blue-0"),
        ("items/12/more", "x-a: b", "blue-0"),
        ("any", "x-color: gray", "green-0"),
        ("any", "x-color: green", "green-0"),
        ("any?id=42", "x-a: b", "web-0"),
    ] {
        assert_eq!(scene.endpoint(path, &["-H", header])?, expected, "{path}");
    }
    for (path, header) in [
        ("items/12x", "x-a: b"),
        ("v1/items/12", "x-a: b"),
        ("any", "x-color: grayish"),
        ("any?id=421", "x-a: b"),
    ] {
        let url = scene.web.url_of(path);
        let status = scene.client.status(&["-H", header, &url])?;
        assert_eq!(status, 404, "{path} {header}: the control");
    }
    Ok(())
}

#[test]
fn routes_of_v1beta1_are_those_of_v1() -> Result<()> {
    let scene = Scene::new()?;
    let own = json!([{ "path": { "type": "PathPrefix", "value": "/own" } }]);
    let mut route = http_route(
        "route",
        "web",
        &json!([
            { "matches": own, "backendRefs": to("blue") },
        ]),
    );
    route["apiVersion"] = json!("gateway.networking.k8s.io/v1beta1");
    scene.put(&[route])?;

    assert_eq!(scene.endpoint("own/x", &[])?, "blue-0");
    let status = scene.client.status(&[&scene.web.url_of("other")])?;
    assert_eq!(status, 404, "the control");
    Ok(())
}
