//! What a rule does for one of its destinations alone.

use anyhow::Result;
use proxy_e2e::until;
use serde_json::{Value, json};

use crate::scene::{Scene, seen_by};

/// Fields of a rule that sends its requests to `web`, with these filters for that destination.
fn to_web(filters: &Value) -> Value {
    json!({ "backendRefs": [{ "name": "web", "port": 80, "filters": filters }] })
}

#[test]
fn a_destination_has_a_rewrite_and_a_mirror_of_its_own() -> Result<()> {
    let scene = Scene::new()?;
    let path = json!({ "type": "ReplaceFullPath", "replaceFullPath": "/new" });
    let mirror = json!({ "backendRef": { "name": "shadow", "port": 80 } });
    scene.rule(to_web(&json!([
        { "type": "URLRewrite", "urlRewrite": { "hostname": "new.example", "path": path } },
        { "type": "RequestMirror", "requestMirror": mirror },
    ])))?;

    let answer = scene.client.get(&scene.web.url_of("old?a=b"))?;

    assert_eq!(
        (&*answer.path, &*answer.authority),
        ("/new?a=b", "new.example")
    );
    until("the mirror has seen the request as it was sent", || {
        Ok(seen_by(&scene.shadow, "/new?a=b")?.len() == 1)
    })?;
    assert_eq!(scene.seen("/old?a=b")?.len(), 0);
    Ok(())
}

#[test]
fn a_destinations_redirect_answers_its_share_alone() -> Result<()> {
    let scene = Scene::new()?;
    let redirect = json!([{ "type": "RequestRedirect", "requestRedirect": {
        "hostname": "new.example", "statusCode": 307,
    }}]);
    scene.rule(to_web(&redirect))?;
    let all = scene.head("a", &[])?;
    scene.rule(json!({ "backendRefs": [
        { "name": "web", "port": 80, "weight": 0, "filters": redirect },
        { "name": "web", "port": 80 },
    ]}))?;
    let none = scene.head("a", &[])?;

    assert!(
        all.contains(" 307 ") && all.contains("location: http://new.example/a"),
        "{all}"
    );
    assert!(
        none.contains(" 200 ") && none.contains("x-endpoint: web-"),
        "{none}"
    );
    Ok(())
}

#[test]
fn a_destinations_cors_answers_preflights_and_is_told() -> Result<()> {
    let scene = Scene::new()?;
    let cors = json!({ "allowOrigins": ["https://shop.example"], "allowMethods": ["PUT"] });
    scene.rule(to_web(&json!([{ "type": "CORS", "cors": cors }])))?;
    let origin = ["-H", "Origin: https://shop.example"];
    let preflight = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: PUT"];

    let asked = scene.head("a", &[&preflight[..], &origin[..]].concat())?;
    let told = scene.head("b", &origin)?;
    let foreign = scene.head("b", &["-H", "Origin: https://other.example"])?;

    assert!(
        asked.contains(" 204 ") && asked.contains("access-control-allow-methods: put"),
        "{asked}"
    );
    assert_eq!(scene.seen("/a")?.len(), 0, "preflights are the agent's");
    assert!(
        told.contains("access-control-allow-origin: https://shop.example"),
        "{told}"
    );
    assert!(!foreign.contains("access-control-"), "{foreign}");
    Ok(())
}
