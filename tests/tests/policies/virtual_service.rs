//! VirtualServices: conditions, rewrites, redirects, edits, delegates and visibility, by traffic.

use anyhow::Result;
use proxy_e2e::echo::Answer;
use proxy_e2e::{Load, until};
use serde_json::{Value, json};

use crate::scene::{Scene, seen_by};

fn to(service: &str) -> Value {
    json!([{ "destination": { "host": service } }])
}

/// A route to `shadow` for `conditions`, and one to `web` for everything else.
fn chosen(conditions: Value) -> Value {
    json!([{ "match": [conditions], "route": to("shadow") }, { "route": to("web") }])
}

fn ask(scene: &Scene, path: &str, arguments: &[&str]) -> Result<Answer> {
    let url = scene.web.url_of(path);
    scene.client.request(&[arguments, &[&url]].concat())
}

/// Whether a request falls under the conditions of [`chosen`].
fn is_chosen(scene: &Scene, path: &str, arguments: &[&str]) -> Result<bool> {
    Ok(ask(scene, path, arguments)?.endpoint == "shadow-0")
}

#[test]
fn a_header_that_must_not_be_there_keeps_a_request_out() -> Result<()> {
    let scene = Scene::new()?;
    scene.virtual_service(chosen(json!({
        "withoutHeaders": { "x-internal": {}, "x-kind": { "exact": "robot" } },
    })))?;

    assert!(is_chosen(&scene, "a", &[])?);
    assert!(is_chosen(&scene, "a", &["-H", "X-Kind: human"])?);
    assert!(!is_chosen(&scene, "a", &["-H", "X-Kind: robot"])?);
    assert!(!is_chosen(&scene, "a", &["-H", "X-Internal: no"])?);
    Ok(())
}

#[test]
fn the_letter_case_of_a_path_is_ignored_where_the_match_says_so() -> Result<()> {
    let scene = Scene::new()?;
    let uri = |any_case: bool| json!({ "uri": { "prefix": "/Beta" }, "ignoreUriCase": any_case });
    scene.virtual_service(chosen(uri(true)))?;

    for path in ["beta", "BETA/x", "Beta"] {
        assert!(is_chosen(&scene, path, &[])?, "{path}");
    }
    assert!(!is_chosen(&scene, "alpha", &[])?);

    scene.virtual_service(chosen(uri(false)))?;
    assert!(is_chosen(&scene, "Beta", &[])?);
    assert!(!is_chosen(&scene, "beta", &[])?, "the control");
    Ok(())
}

#[test]
fn the_client_and_the_authority_decide_where_a_match_asks_for_them() -> Result<()> {
    let scene = Scene::new()?;
    scene.virtual_service(chosen(json!({
        "sourceNamespace": "default",
        "sourceLabels": { "app": "client" },
        "authority": { "prefix": "shop." },
        "queryParams": { "flag": { "exact": "" } },
    })))?;

    let host = ["-H", "Host: shop.example"];
    assert!(is_chosen(&scene, "a?flag", &host)?);
    assert!(!is_chosen(&scene, "a?flag", &[])?, "another authority");
    assert!(!is_chosen(&scene, "a?flag=1", &host)?, "another value");

    let other = json!({ "sourceLabels": { "app": "other" } });
    scene.virtual_service(chosen(other))?;
    assert!(!is_chosen(&scene, "a", &[])?, "another client's labels");
    Ok(())
}

#[test]
fn methods_and_schemes_are_compared_as_the_match_says() -> Result<()> {
    let scene = Scene::new()?;
    let chosen = |conditions: Value| scene.virtual_service(chosen(conditions));
    chosen(json!({ "method": { "regex": "PUT|P.ST" }, "scheme": { "prefix": "htt" } }))?;
    assert!(is_chosen(&scene, "a", &["-X", "PUT"])?);
    assert!(is_chosen(&scene, "a", &["-X", "POST"])?);
    assert!(!is_chosen(&scene, "a", &[])?);

    chosen(json!({ "method": { "prefix": "P" }, "authority": { "regex": "web:80[0-9]+" } }))?;
    let host = ["-X", "PUT", "-H", "Host: web:8080"];
    assert!(is_chosen(&scene, "a", &host)?);
    assert!(!is_chosen(
        &scene,
        "a",
        &["-X", "PUT", "-H", "Host: web:90"]
    )?);

    chosen(json!({ "method": { "regex": "PU" } }))?;
    assert!(!is_chosen(&scene, "a", &["-X", "PUT"])?, "the whole method");

    chosen(json!({ "method": { "prefix": "P" }, "scheme": { "regex": "https" } }))?;
    assert!(!is_chosen(&scene, "a", &["-X", "PUT"])?, "another scheme");
    Ok(())
}

#[test]
fn paths_are_rewritten_by_prefix_and_by_expression() -> Result<()> {
    let scene = Scene::new()?;
    let path = |prefix: &str| json!([{ "uri": { "prefix": prefix } }]);
    scene.virtual_service(json!([
        {
            "match": path("/old/"),
            "rewrite": { "uri": "/", "authority": "inner.example" },
            "route": to("web"),
        },
        {
            "match": path("/service/"),
            "rewrite": { "uriRegexRewrite": {
                "match": "^/service/([^/]+)(/.*)$", "rewrite": "\\2/instance/\\1",
            } },
            "route": to("web"),
        },
        { "route": to("web") },
    ]))?;

    let prefix = ask(&scene, "old/a/b?c=d", &[])?;
    assert_eq!(
        (prefix.path.as_str(), prefix.authority.as_str()),
        ("/a/b?c=d", "inner.example")
    );
    assert_eq!(
        ask(&scene, "service/foo/v1/api?x", &[])?.path,
        "/v1/api/instance/foo?x"
    );
    let untouched = ask(&scene, "older", &[])?;
    assert_eq!(untouched.path, "/older", "the control");
    assert_ne!(untouched.authority, "inner.example");
    Ok(())
}

#[test]
fn redirects_name_what_they_change_and_keep_the_rest() -> Result<()> {
    let scene = Scene::new()?;
    let path = |prefix: &str| json!([{ "uri": { "prefix": prefix } }]);
    scene.virtual_service(json!([
        { "match": path("/uri"), "redirect": { "uri": "/new" } },
        {
            "match": path("/all"),
            "redirect": {
                "uri": "/x", "authority": "other.example", "scheme": "https", "port": 8443,
                "redirectCode": 308,
            },
        },
        { "route": to("web") },
    ]))?;

    let host = ["-H", "Host: shop.example"];
    let uri = scene.head("uri/deep?q=1", &host)?;
    assert!(uri.contains(" 301 "), "{uri}");
    assert!(
        uri.contains("location: http://shop.example/new?q=1\r"),
        "{uri}"
    );
    let all = scene.head("all", &host)?;
    assert!(all.contains(" 308 "), "{all}");
    assert!(
        all.contains("location: https://other.example:8443/x\r"),
        "{all}"
    );
    assert!(!scene.head("other", &host)?.contains("location:"));
    assert_eq!(
        scene.seen("/uri/deep?q=1")?.len(),
        0,
        "no endpoint is asked"
    );
    Ok(())
}

#[test]
fn headers_are_edited_by_the_route_and_by_the_destination() -> Result<()> {
    let scene = Scene::new()?;
    scene.virtual_service(json!([{
        "match": [{ "uri": { "prefix": "/edited" } }],
        "headers": {
            "request": { "set": { "x-set": "new" }, "add": { "x-add": "two" }, "remove": ["x-gone"] },
            "response": { "remove": ["x-endpoint"], "add": { "x-route": "edited" } },
        },
        "route": [{
            "destination": { "host": "web" },
            "headers": { "request": { "set": { "x-to": "web" } } },
        }],
    }, { "route": to("web") }]))?;
    let headers = ["-H", "X-Set: old", "-H", "X-Gone: 1"];

    let edited = ask(&scene, "edited", &headers)?;
    let plain = ask(&scene, "plain", &headers)?;

    for (name, after, before) in [
        ("x-set", "new", "old"),
        ("x-add", "two", ""),
        ("x-gone", "", "1"),
        ("x-to", "web", ""),
    ] {
        assert_eq!(
            (edited.header(name), plain.header(name)),
            (after, before),
            "{name}"
        );
    }
    let head = scene.head("edited", &[])?;
    assert!(
        head.contains("x-route: edited") && !head.contains("x-endpoint:"),
        "{head}"
    );
    assert!(
        scene.head("plain", &[])?.contains("x-endpoint:"),
        "the control"
    );
    Ok(())
}

#[test]
fn a_delegates_routes_stand_in_place_of_its_roots() -> Result<()> {
    let scene = Scene::new()?;
    let delegate = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "namespace": "default", "name": "part" },
        "spec": { "http": [
            { "match": [{ "uri": { "prefix": "/part/shadow" } }], "route": to("shadow") },
            { "route": to("web") },
        ] },
    });
    let root = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "namespace": "default", "name": "route" },
        "spec": { "hosts": ["web"], "http": [
            { "match": [{ "uri": { "prefix": "/part" } }], "delegate": { "name": "part" } },
            { "directResponse": { "status": 418 } },
        ] },
    });
    // In one write: a delegate without its root is a problem.
    scene.put_all(&[delegate, root])?;

    assert_eq!(ask(&scene, "part/shadow/x", &[])?.endpoint, "shadow-0");
    assert!(ask(&scene, "part/x", &[])?.endpoint.starts_with("web-"));
    assert_eq!(scene.status("shadow", &[])?, 418, "beyond the root's match");
    Ok(())
}

#[test]
fn routes_that_are_not_exported_are_for_their_own_namespace() -> Result<()> {
    let scene = Scene::new()?;
    let stranger = scene
        .node
        .pod("stranger")
        .namespace("blog")
        .captured()
        .start()?;
    scene.agent.wait_captured([&stranger])?;
    scene.put(&json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "namespace": "default", "name": "route" },
        "spec": {
            "hosts": ["web"],
            "exportTo": ["."],
            "http": [{ "directResponse": { "status": 418 } }],
        },
    }))?;

    assert_eq!(scene.status("a", &[])?, 418);
    assert_eq!(
        stranger.status(&[&scene.web.url_of("a")])?,
        200,
        "it sees none"
    );
    Ok(())
}

#[test]
fn a_share_of_the_requests_is_mirrored_to_each() -> Result<()> {
    let scene = Scene::new()?;
    scene.virtual_service(json!([
        {
            "match": [{ "uri": { "prefix": "/some" } }],
            "mirrors": [{ "destination": { "host": "shadow" }, "percentage": { "value": 25 } }],
            "route": to("web"),
        },
        { "route": to("web") },
    ]))?;

    let load = |path| {
        Load::new(&scene.web.url_of(path))
            .requests(400)
            .connections(2)
    };
    scene.client.load(&load("some"))?.all_ok(400)?;
    scene.client.load(&load("other"))?.all_ok(400)?;

    let mirrored = r#"proxy_agent_mirrored_requests_total{cluster="default/shadow:80"} "#;
    let copies = scene.metric(mirrored)?;
    // Five standard deviations of a binomial share: 5 × sqrt(400 × 0.25 × 0.75) = 43.
    assert!((57..=143).contains(&copies), "{copies} of 400");
    until("the mirror has seen them", || {
        Ok(seen_by(&scene.shadow, "/some")?.len() as u64 == copies)
    })?;
    assert_eq!(seen_by(&scene.shadow, "/other")?.len(), 0, "the control");
    Ok(())
}

#[test]
fn a_cors_policy_answers_preflights_and_tells_the_browser() -> Result<()> {
    let scene = Scene::new()?;
    scene.virtual_service(json!([{ "route": to("web"), "corsPolicy": {
        "allowOrigins": [
            { "exact": "https://shop.example" },
            { "regex": "https://[a-z]+\\.blog\\.example" },
        ],
        "allowMethods": ["PUT"],
        "maxAge": "60s",
    }}]))?;
    let preflight = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: PUT"];

    for origin in ["https://shop.example", "https://a.blog.example"] {
        let header = format!("Origin: {origin}");
        let allowed = format!("access-control-allow-origin: {origin}");
        let asked = scene.head("pre", &[&preflight[..], &["-H", &header]].concat())?;
        assert!(asked.contains(&allowed), "{asked}");
        assert!(
            asked.contains("access-control-allow-methods: put"),
            "{asked}"
        );
        assert!(asked.contains("access-control-max-age: 60"), "{asked}");
        let actual = scene.head("real", &["-H", &header])?;
        assert!(actual.contains(&allowed), "{actual}");
        assert!(actual.contains("x-endpoint: web-"), "{actual}");
    }
    assert_eq!(scene.seen("/pre")?.len(), 0, "preflights are the agent's");
    let foreign = scene.head("real", &["-H", "Origin: https://a.b.blog.example"])?;
    assert!(!foreign.contains("access-control-"), "{foreign}");
    Ok(())
}

#[test]
fn a_rule_has_its_endpoints_picked_at_random() -> Result<()> {
    let scene = Scene::with_workers(1)?;
    let route = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": { "namespace": "default", "name": "route" },
        "spec": { "hosts": ["web"], "http": [{ "route": to("web") }] },
    });
    let rule = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": { "namespace": "default", "name": "web" },
        "spec": { "host": "web", "trafficPolicy": { "loadBalancer": { "simple": "RANDOM" } } },
    });
    let repeats = || -> Result<usize> {
        let all = (0..60).map(|_| Ok(ask(&scene, "a", &[])?.endpoint));
        let all = all.collect::<Result<Vec<_>>>()?;
        for server in &scene.servers {
            assert!(all.iter().any(|one| one == server.name()), "{all:?}");
        }
        Ok(all.windows(2).filter(|pair| pair[0] == pair[1]).count())
    };
    let exported = |to: &str| {
        let mut rule = rule.clone();
        rule["spec"]["exportTo"] = json!([to]);
        [route.clone(), rule]
    };

    scene.put(&route)?;
    assert_eq!(repeats()?, 0, "the control: in turn, as the Service says");
    scene.put_all(&exported("blog"))?;
    assert_eq!(repeats()?, 0, "for clients of another namespace");
    scene.put_all(&exported("."))?;
    assert_ne!(repeats()?, 0, "none of 59 has a chance of 4e-11");
    Ok(())
}
