//! Paths that rules hold: in the form in which requests' paths are matched, or refused.

use super::{ask, compile, listener, only_problem, problems, service};
use crate::model::Snapshot;

fn http_route(path: &str) -> Snapshot {
    compile(
        &(service("web", 80)
            + &format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
                 metadata: {{name: r, namespace: ns}}\n\
                 spec: {{parentRefs: [{{group: '', kind: Service, name: web}}], \
                 rules: [{{matches: [{{path: {{{path}}}}}], backendRefs: [{{name: web, port: 80}}]}}]}}\n"
            )),
    )
}

fn virtual_service(uri: &str) -> Snapshot {
    compile(
        &(service("web", 80)
            + &format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                 metadata: {{name: v, namespace: ns}}\n\
                 spec: {{hosts: [web], http: [{{match: [{{uri: {{{uri}}}}}], \
                 route: [{{destination: {{host: web}}}}]}}]}}\n"
            )),
    )
}

fn answer(snapshot: &Snapshot, path: &str) -> String {
    assert_eq!(problems(snapshot), Vec::<String>::new());
    let table = &listener(snapshot, "web", 80).routes;
    ask(table, snapshot, &format!("GET {path}"))
}

#[test]
fn what_a_path_must_not_hold_by_gateway_api_is_named() {
    for kind in ["Exact", "PathPrefix"] {
        for (path, found) in [
            ("/a//b", "//"),
            ("/a/./b", "/./"),
            ("/a/../b", "/../"),
            ("/a%2Fb", "%2F"),
            ("/a%2fb", "%2f"),
            ("/a#b", "#"),
            ("/a/..", "/.."),
            ("/a/.", "/."),
            ("a", "that begins with /"),
            ("", "that begins with /"),
        ] {
            let snapshot = http_route(&format!("type: {kind}, value: '{path}'"));
            let problem = only_problem(&snapshot);
            let begin = "HTTPRoute.gateway.networking.k8s.io ns/r: spec.rules[0].matches[0].path.value: found";
            assert!(problem.starts_with(begin), "{problem}");
            assert!(problem.contains(found), "{problem}");
        }
    }
}

#[test]
fn an_escape_that_requests_never_have_is_decoded_in_rules_too() {
    let snapshot = http_route("type: Exact, value: /%7Ejoe");
    assert_eq!(answer(&snapshot, "/~joe"), "ns/web:80*1");
    assert_eq!(answer(&snapshot, "/joe"), "404");
    let snapshot = http_route("value: /%7Ejoe");
    assert_eq!(answer(&snapshot, "/~joe/x"), "ns/web:80*1");
}

#[test]
fn istios_paths_are_brought_into_normal_form() {
    for (uri, path) in [
        ("exact: /a//b", "/a/b"),
        ("exact: /a/../b", "/b"),
        ("prefix: /a//b", "/a/bc"),
        ("prefix: /a/.", "/a/.well-known"),
        ("prefix: /%7Ejoe", "/~joe/x"),
    ] {
        let snapshot = virtual_service(uri);
        assert_eq!(answer(&snapshot, path), "ns/web:80*1", "{uri}");
        assert_eq!(answer(&snapshot, "/other"), "404", "{uri}");
    }
}
