//! What became of routes at their parents, and references into other namespaces.

use super::{ask, compile, listener, problems, service};
use crate::model::{Condition, ConditionReason, Snapshot};

const PARENT: &str = "{group: '', kind: Service, name: web}";
const TO_B: &str = "{backendRefs: [{name: b, port: 80}]}";
const TO_OTHER: &str = "{backendRefs: [{name: d, namespace: other, port: 80}]}";

fn route(parents: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: r, namespace: ns, generation: 7}}\n\
         spec: {{parentRefs: [{parents}], rules: [{rules}]}}\n---\n"
    )
}

fn grant(version: &str, from: &str, to: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: ReferenceGrant\n\
         metadata: {{name: g, namespace: other}}\n\
         spec: {{from: [{from}], to: [{to}]}}\n---\n"
    )
}

/// Services `ns/web`, `ns/b` and `other/d`, and what else is given.
fn with(rest: &str) -> Snapshot {
    let d = service("d", 80).replace("namespace: ns", "namespace: other");
    compile(&(service("web", 80) + &service("b", 80) + &d + rest))
}

fn answer(snapshot: &Snapshot) -> String {
    ask(&listener(snapshot, "web", 80).routes, snapshot, "GET /")
}

/// Each parent's conditions: `true` when they hold, and their reasons.
fn conditions(snapshot: &Snapshot) -> Vec<[(bool, &'static str); 2]> {
    let brief = |one: &Condition| (one.status, one.reason.name());
    let parents = snapshot.route_parents.iter();
    parents
        .map(|one| [brief(&one.accepted), brief(&one.resolved_refs)])
        .collect()
}

const ACCEPTED: (bool, &str) = (true, "Accepted");
const RESOLVED: (bool, &str) = (true, "ResolvedRefs");

#[test]
fn a_route_in_force_is_accepted_and_resolved_at_its_service() {
    let snapshot = with(&route(PARENT, TO_B));
    assert_eq!(conditions(&snapshot), [[ACCEPTED, RESOLVED]]);
    let one = &snapshot.route_parents[0];
    assert_eq!((&*one.route.name, one.generation), ("r", 7));
    assert_eq!(
        (
            one.parent.group.as_deref(),
            one.parent.kind.as_deref(),
            &*one.parent.name
        ),
        (Some(""), Some("Service"), "web")
    );
    assert_eq!(
        one.parent.namespace, None,
        "as written: the route names none"
    );
    assert_eq!(one.accepted.message, "");
}

#[test]
fn a_gateway_as_parent_is_somebody_elses_to_answer_for() {
    let snapshot = with(&route(&format!("{{name: gw}}, {PARENT}"), TO_B));
    assert_eq!(conditions(&snapshot), [[ACCEPTED, RESOLVED]]);
    assert_eq!(snapshot.route_parents[0].parent.name, "web");
    assert!(with(&route("{name: gw}", TO_B)).route_parents.is_empty());
}

#[test]
fn a_parent_of_another_kind_is_named() {
    for (parent, field, found) in [
        (
            "{group: '', kind: Servce, name: web}",
            "kind",
            "found `Servce` of group ``",
        ),
        (
            "{group: '', kind: service, name: web}",
            "kind",
            "found `service` of group ``",
        ),
        (
            "{group: networking.istio.io, kind: ServiceEntry, name: web}",
            "kind",
            "found `ServiceEntry` of group `networking.istio.io`, accepted: Service (group \"\")",
        ),
        (
            "{group: '', name: web}",
            "kind",
            "found `Gateway` of group ``",
        ),
        (
            "{kind: Service, name: web}",
            "group",
            "is missing: for a Service write `group: \"\"`",
        ),
    ] {
        let snapshot = with(&route(&format!("{PARENT}, {parent}"), TO_B));
        let [problem] = &snapshot.problems[..] else {
            panic!("{parent}: {:?}", problems(&snapshot));
        };
        assert_eq!(problem.severity, crate::model::Severity::Error);
        assert_eq!(problem.field, format!("spec.parentRefs[1].{field}"));
        assert!(problem.reason.starts_with(found), "{}", problem.reason);
        assert_eq!(answer(&snapshot), "ns/b:80*1", "the other one is in force");
    }
}

#[test]
fn a_route_without_parents_is_named_and_one_of_gateways_is_not() {
    let alone = with(&route("", TO_B));
    let [problem] = &alone.problems[..] else {
        panic!("{:?}", problems(&alone));
    };
    assert_eq!(problem.severity, crate::model::Severity::Warning);
    assert_eq!(problem.field, "spec.parentRefs");
    for parent in [
        "{name: gw}",
        "{group: gateway.networking.k8s.io, kind: ListenerSet, name: l}",
        "{group: gateway.networking.x-k8s.io, kind: XListenerSet, name: l}",
    ] {
        let snapshot = with(&route(parent, TO_B));
        assert_eq!(problems(&snapshot), Vec::<String>::new(), "{parent}");
    }
}

#[test]
fn a_parent_that_is_not_there_is_no_matching_parent_beside_one_that_is() {
    for missing in [
        "{group: '', kind: Service, name: gone}",
        "{group: '', kind: Service, name: web, port: 81}",
        "{group: '', kind: Service, name: web, sectionName: x}",
    ] {
        let snapshot = with(&route(&format!("{missing}, {PARENT}, {PARENT}"), TO_B));
        let refused = (false, "NoMatchingParent");
        let expected = [[refused, RESOLVED], [ACCEPTED, RESOLVED]];
        assert_eq!(conditions(&snapshot), expected, "{missing}");
        let message = &snapshot.route_parents[0].accepted.message;
        assert!(message.starts_with("spec.parentRefs[0]."), "{message}");
        assert_eq!(answer(&snapshot), "ns/b:80*1", "the other one is in force");
    }
}

#[test]
fn what_is_not_carried_out_is_not_accepted() {
    let extension = "{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}";
    let redirect = "{type: RequestRedirect, requestRedirect: {}}";
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: h}}";
    for (rule, reason) in [
        (format!("{{filters: [{extension}]}}"), "UnsupportedValue"),
        (
            format!("{{filters: [{rewrite}, {redirect}]}}"),
            "IncompatibleFilters",
        ),
        ("{timeouts: {request: 1.5s}}".to_owned(), "UnsupportedValue"),
        (
            "{matches: [{path: {type: RegularExpression, value: '('}}]}".to_owned(),
            "UnsupportedValue",
        ),
    ] {
        let rules = format!(
            "{}, {TO_B}",
            rule.replacen('{', "{backendRefs: [{name: b, port: 80}], ", 1)
        );
        let snapshot = with(&route(PARENT, &rules));
        assert_eq!(conditions(&snapshot), [[(false, reason), RESOLVED]]);
        let message = &snapshot.route_parents[0].accepted.message;
        assert!(message.starts_with("spec.rules[0]."), "{message}");
    }
}

#[test]
fn references_that_lead_nowhere_are_not_resolved() {
    for (reference, reason) in [
        ("{name: gone, port: 80}", "BackendNotFound"),
        ("{name: b, port: 81}", "BackendNotFound"),
        ("{name: b, kind: Pod, port: 80}", "InvalidKind"),
        (
            "{name: gone, namespace: other, port: 80}",
            "RefNotPermitted",
        ),
    ] {
        let rule = format!("{{backendRefs: [{{name: b, port: 80}}, {reference}]}}");
        let snapshot = with(&route(PARENT, &rule));
        assert_eq!(conditions(&snapshot), [[ACCEPTED, (false, reason)]]);
        let message = &snapshot.route_parents[0].resolved_refs.message;
        assert!(
            message.starts_with("spec.rules[0].backendRefs[1]."),
            "{message}"
        );
        assert_eq!(answer(&snapshot), "ns/b:80*1 invalid*1");
    }
}

#[test]
fn a_grant_opens_its_namespace_to_the_routes_that_it_names_alone() {
    let trusted = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: ns}";
    let services = "{group: '', kind: Service}";
    let one = |name: &str| format!("{{group: '', kind: Service, name: {name}}}");
    for (grants, allowed) in [
        (String::new(), false),
        (grant("v1beta1", trusted, services), true),
        (grant("v1", trusted, &one("d")), true),
        (grant("v1", trusted, &one("e")), false),
        (
            grant("v1", &trusted.replace("ns", "third"), services),
            false,
        ),
        (
            grant("v1", &trusted.replace("HTTPRoute", "TCPRoute"), services),
            false,
        ),
        (grant("v1", trusted, "{group: '', kind: Secret}"), false),
        (
            grant("v1", trusted, services).replace("namespace: other", "namespace: ns"),
            false,
        ),
    ] {
        let snapshot = with(&(route(PARENT, TO_OTHER) + &grants));
        let (expected, condition) = if allowed {
            ("other/d:80*1", RESOLVED)
        } else {
            (
                "invalid*1",
                (false, ConditionReason::RefNotPermitted.name()),
            )
        };
        assert_eq!(answer(&snapshot), expected, "{grants}");
        assert_eq!(conditions(&snapshot), [[ACCEPTED, condition]], "{grants}");
        assert_eq!(problems(&snapshot).is_empty(), allowed, "{grants}");
    }
}

#[test]
fn a_consumer_route_needs_no_grant_to_the_service_that_it_is_for() {
    let parent = "{group: '', kind: Service, name: d, namespace: other}";
    let from_ns = |snapshot: &Snapshot| {
        let listener = listener(snapshot, "d", 80);
        ask(listener.routes_for("ns"), snapshot, "GET /")
    };
    let snapshot = with(&route(parent, TO_OTHER));
    assert_eq!(from_ns(&snapshot), "other/d:80*1");
    assert_eq!(conditions(&snapshot), [[ACCEPTED, RESOLVED]]);
    let e = service("e", 80).replace("namespace: ns", "namespace: other");
    let to_e = TO_OTHER.replace("name: d", "name: e");
    let snapshot = with(&(route(parent, &to_e) + &e));
    assert_eq!(from_ns(&snapshot), "invalid*1", "another Service there");
}
