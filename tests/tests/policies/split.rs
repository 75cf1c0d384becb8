//! SMI's TrafficSplit and Linkerd's HTTPRoute, by traffic.

use anyhow::{Context, Result};
use proxy_e2e::Load;
use serde_json::{Value, json};

use crate::scene::Scene;

fn split(version: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("split.smi-spec.io/{version}"),
        "kind": "TrafficSplit",
        "metadata": { "namespace": "default", "name": "split" },
        "spec": spec,
    })
}

#[test]
fn a_split_shares_requests_by_weight() -> Result<()> {
    let scene = Scene::new()?;
    let load = || {
        Load::new(&scene.web.url_of("fail/200/0/a"))
            .requests(400)
            .connections(2)
    };
    let before = scene.client.load(&load())?;
    assert_eq!(before.of("shadow-0"), 0, "{:?}", before.by_endpoint);
    for (version, weight) in [
        ("v1alpha1", json!("250m")),
        ("v1alpha2", json!(250)),
        ("v1alpha3", json!(250)),
        ("v1alpha4", json!(250)),
    ] {
        let rest = if version == "v1alpha1" {
            json!("750m")
        } else {
            json!(750)
        };
        let spec = json!({
            "service": "web",
            "backends": [
                { "service": "web", "weight": rest },
                { "service": "shadow", "weight": weight },
            ],
        });
        let mut object = split(version, &spec);
        object["metadata"]["name"] = json!(version);
        scene.put(&object)?;

        let report = scene.client.load(&load())?;

        report.all_ok(400)?;
        // Five standard deviations of a binomial share: 5 × sqrt(400 × 0.25 × 0.75) = 43.
        let shadow = report.of("shadow-0");
        assert!(
            (57..=143).contains(&shadow),
            "{version}: {:?}",
            report.by_endpoint
        );
    }
    Ok(())
}

#[test]
fn a_split_with_matches_leaves_the_rest_alone() -> Result<()> {
    let scene = Scene::new()?;
    let group = json!({
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": { "namespace": "default", "name": "testers" },
        "spec": { "matches": [{ "name": "testers", "headers": { "x-tester": "yes|true" } }] },
    });
    let split = split(
        "v1alpha4",
        &json!({
            "service": "web",
            "matches": [{ "kind": "HTTPRouteGroup", "name": "testers" }],
            "backends": [{ "service": "web", "weight": 0 }, { "service": "shadow", "weight": 1 }],
        }),
    );
    scene.put_all(&[split, group])?;

    let load = Load::new(&scene.web.url_of("fail/200/0/a"))
        .requests(20)
        .connections(1);
    let testers = scene.client.load(&load.clone().header("x-tester: yes"))?;
    let others = scene.client.load(&load.header("x-tester: no"))?;

    assert_eq!(testers.of("shadow-0"), 20, "{:?}", testers.by_endpoint);
    assert_eq!(others.of("shadow-0"), 0, "{:?}", others.by_endpoint);
    Ok(())
}

#[test]
fn linkerds_own_route_sends_by_its_rules_and_shadows_the_split() -> Result<()> {
    let scene = Scene::new()?;
    let route = json!({
        "apiVersion": "policy.linkerd.io/v1beta3",
        "kind": "HTTPRoute",
        "metadata": { "namespace": "default", "name": "own" },
        "spec": {
            "parentRefs": [{ "group": "core", "kind": "Service", "name": "web" }],
            "rules": [
                {
                    "matches": [{ "headers": [{ "name": "x-tester", "value": "yes" }] }],
                    "backendRefs": [{ "name": "shadow", "port": 80 }],
                },
                {
                    "matches": [{ "path": { "value": "/slow" } }],
                    "timeouts": { "request": "300ms" },
                },
                { "matches": [{ "path": { "value": "/fail" } }] },
            ],
        },
    });
    let split = split(
        "v1alpha4",
        &json!({
            "service": "web",
            "backends": [{ "service": "shadow", "weight": 1 }],
        }),
    );
    scene.put_all(&[split, route])?;

    let tester = scene.head("else", &["-H", "x-tester: yes"])?;
    let other = scene.head("fail/200/0/a", &[])?;

    assert!(tester.contains("x-endpoint: shadow-0"), "{tester}");
    assert!(other.contains("x-endpoint: web-"), "{other}");
    assert_eq!(scene.status("slow/99/a", &[])?, 504);
    assert_eq!(scene.status("else", &[])?, 404);
    let routes = scene.agent.status()?["routes"].clone();
    let of_web = routes.as_array().context("routes")?.iter();
    let mut of_web = of_web.filter(|table| table["parent"] == "default/web:80");
    let shadowed = &of_web.next().context("the table of web")?["shadowed"];
    let words = "TrafficSplit.split.smi-spec.io default/split: \
                 HTTPRoute.policy.linkerd.io default/own decides";
    assert_eq!(*shadowed, json!([words]));
    let shown = scene.agent.verb(&["status", "routes"])?.success()?;
    assert!(shown.contains(&format!("shadowed: {words}")), "{shown}");
    Ok(())
}

#[test]
fn linkerds_own_route_is_for_the_hosts_that_it_names() -> Result<()> {
    let scene = Scene::new()?;
    let route = |name: &str, hostnames: Value, to: &str| {
        json!({
            "apiVersion": "policy.linkerd.io/v1beta3",
            "kind": "HTTPRoute",
            "metadata": { "namespace": "default", "name": name },
            "spec": {
                "parentRefs": [{ "group": "core", "kind": "Service", "name": "web" }],
                "hostnames": hostnames,
                "rules": [{ "backendRefs": [{ "name": to, "port": 80 }] }],
            },
        })
    };
    scene.put_all(&[
        route("below", json!(["*.shop.example", "web.example"]), "web"),
        route("exact", json!(["new.shop.example"]), "shadow"),
    ])?;

    for (host, expected) in [
        ("web.example:8080", "x-endpoint: web-"),
        ("Old.Shop.example", "x-endpoint: web-"),
        ("new.shop.example", "x-endpoint: shadow-0"),
        ("shop.example", "404 not found"),
        ("web", "404 not found"),
    ] {
        let head = scene.head("a", &["-H", &format!("Host: {host}")])?;
        assert!(head.contains(expected), "{host}: {head}");
    }
    Ok(())
}

#[test]
fn linkerds_own_route_redirects_and_answers_with_headers_in_older_versions() -> Result<()> {
    let scene = Scene::new()?;
    let exact = |path: &str| json!([{ "path": { "type": "Exact", "value": path } }]);
    let told = json!({ "add": [{ "name": "x-answered", "value": "yes" }], "remove": ["date"] });
    let redirect = json!({ "hostname": "new.example", "statusCode": 301, "port": 8080 });
    for version in ["v1beta1", "v1beta2"] {
        scene.put(&json!({
            "apiVersion": format!("policy.linkerd.io/{version}"),
            "kind": "HTTPRoute",
            "metadata": { "namespace": "default", "name": version },
            "spec": {
                "parentRefs": [{ "group": "core", "kind": "Service", "name": "web" }],
                "rules": [
                    {
                        "matches": exact("/old"),
                        "filters": [{ "type": "RequestRedirect", "requestRedirect": redirect }],
                    },
                    {
                        "matches": exact("/told"),
                        "filters": [{
                            "type": "ResponseHeaderModifier", "responseHeaderModifier": told,
                        }],
                    },
                    { "matches": exact("/plain") },
                ],
            },
        }))?;

        let old = scene.head("old", &[])?;
        let told = scene.head("told", &[])?;
        let plain = scene.head("plain", &[])?;

        assert!(
            old.contains(" 301 ") && old.contains("location: http://new.example:8080/old"),
            "{version}: {old}"
        );
        assert!(
            told.contains("x-answered: yes") && !told.contains("\ndate:"),
            "{version}: {told}"
        );
        assert!(
            plain.contains(" 200 ") && !plain.contains("x-answered") && plain.contains("\ndate:"),
            "{version}, the control: {plain}"
        );
        assert_eq!(scene.status("none", &[])?, 404, "{version}");
    }
    Ok(())
}
