//! Filters of one destination of a Gateway API rule, and ports that parents name.

use super::{compile, listener, only_problem, problems, service};
use crate::model::{
    Action, Destination, PathRewrite, RouteTable, Rule, Snapshot, WeightedDestination,
};

/// Services `web` and `b`, and an HTTPRoute with these parents and this rule.
fn with(parent: &str, rule: &str) -> Snapshot {
    let web = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: ns}\n\
               spec: {ports: [{port: 80, name: http}, {port: 81, name: http-admin}]}\n---\n";
    compile(
        &(web.to_owned()
            + &service("b", 80)
            + &format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
                 metadata: {{name: r, namespace: ns}}\n\
                 spec: {{parentRefs: [{{group: '', kind: Service, name: web{parent}}}], rules: [{{{rule}}}]}}\n"
            )),
    )
}

fn rule(snapshot: &Snapshot) -> &Rule {
    assert_eq!(problems(snapshot), Vec::<String>::new());
    &listener(snapshot, "web", 80).routes.rules[0]
}

fn destinations(rule: &Rule) -> &[WeightedDestination] {
    let Action::Forward { destinations, .. } = &*rule.action else {
        panic!("no destinations: {rule:?}");
    };
    destinations
}

/// One destination of Service `b` with these filters, beside one without.
fn with_filters(filters: &str) -> Snapshot {
    with(
        "",
        &format!(
            "matches: [{{path: {{value: /a}}}}], \
             backendRefs: [{{name: b, port: 80, filters: [{filters}]}}, {{name: web, port: 80}}]"
        ),
    )
}

#[test]
fn a_destination_may_rewrite_what_goes_to_it_alone() {
    let snapshot = with_filters(
        "{type: URLRewrite, urlRewrite: {hostname: h.example, \
         path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}",
    );
    let [own, plain] = destinations(rule(&snapshot)) else {
        panic!("two destinations");
    };
    assert!(matches!(own.filters.rewrite_path, Some(PathRewrite::Prefix(ref to)) if &**to == "/x"));
    assert_eq!(
        own.filters.rewrite_authority.as_ref().expect("a host"),
        "h.example"
    );
    assert!(plain.filters.rewrite_path.is_none() && plain.policies.is_none());
}

#[test]
fn a_destination_may_be_a_redirect_for_its_share() {
    let snapshot = with_filters(
        "{type: RequestRedirect, requestRedirect: {hostname: new.example, statusCode: 301}}, \
         {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-a, value: '1'}]}}",
    );
    let [own, plain] = destinations(rule(&snapshot)) else {
        panic!("two destinations");
    };
    let Destination::Redirect(redirect) = &own.destination else {
        panic!("no redirect: {own:?}");
    };
    assert_eq!(redirect.status.as_u16(), 301);
    assert_eq!(redirect.hostname.as_deref(), Some("new.example"));
    assert_eq!(own.filters.response_headers.set.len(), 1);
    assert!(matches!(plain.destination, Destination::Cluster(_)));
}

#[test]
fn a_destination_may_have_mirrors_and_cors_of_its_own() {
    let snapshot = with_filters(
        "{type: RequestMirror, requestMirror: {percent: 10, backendRef: {name: b, port: 80}}}, \
         {type: CORS, cors: {allowOrigins: ['https://a.example']}}",
    );
    let rule = rule(&snapshot);
    assert!(rule.policies.is_none(), "not the rule's");
    let policies = destinations(rule)[0].policies.as_deref().expect("policies");
    assert_eq!(policies.mirrors[0].share.numerator, 10);
    assert_eq!(policies.cors.as_ref().expect("cors").origins.len(), 1);
}

#[test]
fn what_the_rule_rewrites_a_destination_cannot_rewrite_too() {
    let rewrite = "filters: [{type: URLRewrite, urlRewrite: {hostname: h}}]";
    let snapshot = with(
        "",
        &format!("{rewrite}, backendRefs: [{{name: b, port: 80, {rewrite}}}]"),
    );
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("spec.rules[0].backendRefs[0].filters: found a new host"),
        "{problem}"
    );
    let other = "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /x}}}]";
    let snapshot = with(
        "",
        &format!("{rewrite}, backendRefs: [{{name: b, port: 80, {other}}}]"),
    );
    assert_eq!(problems(&snapshot), Vec::<String>::new());
}

#[test]
fn a_redirect_and_a_rewrite_exclude_each_other_at_a_destination_too() {
    let snapshot = with_filters(
        "{type: URLRewrite, urlRewrite: {hostname: h}}, {type: RequestRedirect, requestRedirect: {port: 81}}",
    );
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("spec.rules[0].backendRefs[0].filters: found both"),
        "{problem}"
    );
}

fn origin(routes: &RouteTable) -> &str {
    &routes.origin
}

#[test]
fn a_section_of_a_service_is_a_port_by_name() {
    let own = "HTTPRoute.gateway.networking.k8s.io ns/r";
    for (parent, at_80, at_81) in [
        (", sectionName: http-admin", "implicit", own),
        (", sectionName: http-admin, port: 81", "implicit", own),
        (", sectionName: http", own, "implicit"),
        ("", own, own),
    ] {
        let snapshot = with(parent, "backendRefs: [{name: b, port: 80}]");
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        assert_eq!(origin(&listener(&snapshot, "web", 80).routes), at_80);
        assert_eq!(origin(&listener(&snapshot, "web", 81).routes), at_81);
    }
    let snapshot = with(
        ", sectionName: http, port: 81",
        "backendRefs: [{name: b, port: 80}]",
    );
    let problem = only_problem(&snapshot);
    assert!(
        problem.ends_with("spec.parentRefs[0].sectionName: found `http`, which is port 80"),
        "{problem}"
    );
}

#[test]
fn a_rules_name_stands_with_its_place() {
    let snapshot = with("", "name: beta, backendRefs: [{name: b, port: 80}]");
    assert_eq!(&*rule(&snapshot).field, "spec.rules[0] (beta)");
}

#[test]
fn everything_that_is_wrong_with_a_rule_is_named_at_once() {
    let snapshot = with(
        "",
        "matches: [{path: {value: a}, headers: [{name: 'a b', value: x}]}], timeouts: {request: 1x}, \
         retry: {codes: [1]}, filters: [{type: URLRewrite}], backendRefs: [{name: gone, port: 80}]",
    );
    let named = problems(&snapshot);
    for field in [
        "matches[0].path.value",
        "matches[0].headers[0].name",
        "timeouts.request",
        "retry.codes[0]",
        "filters[0].urlRewrite",
        "backendRefs[0].name",
    ] {
        let place = format!("spec.rules[0].{field}: ");
        assert!(
            named.iter().any(|one| one.contains(&place)),
            "{field}: {named:#?}"
        );
    }
    assert_eq!(named.len(), 6, "{named:#?}");
}

#[test]
fn a_service_without_its_empty_group_is_asked_for_it() {
    let text = service("web", 80)
        + "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
           metadata: {name: r, namespace: ns}\n\
           spec: {parentRefs: [{kind: Service, name: web}], rules: [{}]}\n";
    let problem = only_problem(&compile(&text));
    assert!(
        problem.contains("spec.parentRefs[0].group: is missing: for a Service write `group: \"\"`"),
        "{problem}"
    );
}

#[test]
fn a_path_modifier_holds_what_its_type_says() {
    let snapshot = with_filters(
        "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replacePrefixMatch: /x}}}",
    );
    let problem = only_problem(&snapshot);
    let expected = "filters[0].urlRewrite.path: type ReplaceFullPath needs replaceFullPath";
    assert!(problem.contains(expected), "{problem}");
}
