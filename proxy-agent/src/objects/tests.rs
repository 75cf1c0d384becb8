//! Reading, by table.

use std::sync::Arc;

use super::{Format, Object, Parsed, parse};
use crate::model::Severity;

fn yaml(text: &str) -> Parsed {
    parse(text, &Arc::from("a.yaml"), Format::Yaml)
}

fn lines(parsed: &Parsed) -> Vec<String> {
    parsed.problems.iter().map(ToString::to_string).collect()
}

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";

#[test]
fn a_service_is_read_into_the_default_namespace() {
    let parsed = yaml(SERVICE);
    assert_eq!(lines(&parsed), Vec::<String>::new());
    assert_eq!(parsed.objects[0].id.to_string(), "Service default/web");
    assert_eq!(parsed.objects[0].place.to_string(), "a.yaml:1");
    assert!(matches!(parsed.objects[0].object, Object::Service(_)));
}

#[test]
fn a_malformed_document_takes_no_other_with_it() {
    let parsed = yaml(&format!(
        "{SERVICE}---\nkind: [\n---\n# two\n{}",
        SERVICE.replace("web", "two")
    ));
    let names: Vec<_> = parsed
        .objects
        .iter()
        .map(|o| (&*o.id.name, o.place.line))
        .collect();
    assert_eq!(names, [("web", 1), ("two", 9)]);
    assert_eq!(parsed.rejected, [None]);
    let [line] = &lines(&parsed)[..] else {
        panic!("one problem expected: {:?}", parsed.problems);
    };
    assert!(line.starts_with("a.yaml:6: "), "{line}");
    assert!(line.contains("line 7"), "the file's line numbers: {line}");
}

#[test]
fn an_unknown_field_of_a_core_kind_is_a_warning_that_names_what_is_accepted() {
    let parsed = yaml(&SERVICE.replace("port: 80", "port: 80, prot: TCP"));
    assert_eq!(parsed.objects.len(), 1);
    assert_eq!(parsed.problems[0].severity, Severity::Warning);
    assert_eq!(
        lines(&parsed),
        [
            "a.yaml:1: Service default/web: spec.ports[0].prot: unknown field; accepted: \
          appProtocol, name, nodePort, port, protocol, targetPort"
        ]
    );
}

#[test]
fn an_unknown_field_of_a_routing_kind_fails_its_rule_or_rejects_the_object() {
    let route = |spec: &str| {
        yaml(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\n\
             spec: {{{spec}}}\n"
        ))
    };
    let object = "a.yaml:1: HTTPRoute.gateway.networking.k8s.io default/r: ";
    let parsed = route("rules: [{matches: [{path: {valu: /x}}]}]");
    assert_eq!(parsed.objects[0].unread, ["spec.rules[0]"]);
    assert_eq!(parsed.problems[0].severity, Severity::Error);
    assert_eq!(
        lines(&parsed),
        [format!(
            "{object}spec.rules[0].matches[0].path.valu: unknown field; accepted: type, value; \
             the rule answers 500"
        )]
    );
    assert_eq!(parsed.rejected, []);

    let parsed = route("parentRef: [], rules: [{filter: []}]");
    assert!(parsed.objects.is_empty(), "not of the rule alone");
    assert_eq!(parsed.problems.len(), 2);
    assert!(
        parsed
            .problems
            .iter()
            .all(|one| !one.reason.contains("500"))
    );
    assert!(parsed.rejected[0].is_some());
}

#[test]
fn only_the_rules_that_cannot_be_read_are_left_unread() {
    for (kind, spec, unread) in [
        (
            "gateway.networking.k8s.io/v1\nkind: HTTPRoute",
            "rules: [{filters: [{type: Odd}]}, {backendRefs: 7}, {}, {matches: 7, x: y}, 7]",
            &[
                "spec.rules[0]",
                "spec.rules[1]",
                "spec.rules[3]",
                "spec.rules[4]",
            ][..],
        ),
        (
            "gateway.networking.k8s.io/v1\nkind: GRPCRoute",
            "rules: [{}, {matches: [{method: {typ: Exact}}]}]",
            &["spec.rules[1]"],
        ),
        (
            "gateway.networking.k8s.io/v1\nkind: TLSRoute",
            "rules: [{backendRefs: [{name: a, prt: 1}]}, {backendRefs: []}]",
            &["spec.rules[0]"],
        ),
        (
            "gateway.networking.k8s.io/v1\nkind: TCPRoute",
            "rules: [{backendRefs: []}, {}]",
            &["spec.rules[1]"],
        ),
        (
            "policy.linkerd.io/v1beta3\nkind: HTTPRoute",
            "rules: [{timeouts: 7}, {}]",
            &["spec.rules[0]"],
        ),
        (
            "networking.istio.io/v1\nkind: VirtualService",
            "hosts: [a], http: [{timeout: 7}, {}], tls: [{mtch: 7}, {match: {}}], tcp: [{}, {route: 7}]",
            &["spec.http[0]", "spec.tcp[1]", "spec.tls[0]", "spec.tls[1]"],
        ),
        (
            "linkerd.io/v1alpha2\nkind: ServiceProfile",
            "routes: [{name: a, condition: {method: GET}}, {name: b, condition: {metod: GET}}, {}]",
            &["spec.routes[1]", "spec.routes[2]"],
        ),
    ] {
        let parsed = yaml(&format!(
            "apiVersion: {kind}\nmetadata: {{name: r.ns}}\nspec: {{{spec}}}\n"
        ));
        let said = lines(&parsed);
        let [object] = &parsed.objects[..] else {
            panic!("{kind}: {said:#?}");
        };
        let mut found: Vec<_> = object.unread.iter().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, unread, "{said:#?}");
        for field in unread {
            let named = said.iter().any(|line| line.contains(field));
            assert!(named, "{field}: {said:#?}");
        }
        assert_eq!(parsed.rejected, []);
    }
}

#[test]
fn a_wrong_type_is_named_with_its_field_path() {
    let parsed = yaml(&SERVICE.replace("port: 80", "port: eighty"));
    assert_eq!(
        lines(&parsed),
        ["a.yaml:1: Service default/web: spec.ports[0].port: \
          invalid type: string \"eighty\", expected a whole number"]
    );
}

#[test]
fn what_identifies_an_object_must_be_there() {
    for (text, expected) in [
        (
            "kind: Service\n",
            "a.yaml:1: apiVersion: no apiVersion: every document must be a Kubernetes object",
        ),
        (
            "apiVersion: v1\n",
            "a.yaml:1: kind: no kind: every document must be a Kubernetes object",
        ),
        (
            "- 1\n",
            "a.yaml:1: apiVersion: no apiVersion: every document must be a Kubernetes object",
        ),
        (
            "apiVersion: v1\nkind: Pod\n",
            "a.yaml:1: metadata.name: no name: every Pod needs one",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n",
            "a.yaml:1: metadata.name: found 7, expected a string",
        ),
        ("a: 1\na: 2\n", "a.yaml:1: key `a` stands twice"),
    ] {
        assert_eq!(lines(&yaml(text)), [expected], "{text}");
    }
}

#[test]
fn lists_are_unrolled_and_paths_lead_into_them() {
    let parsed = yaml(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n\
         - {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: 3}}\n",
    );
    assert_eq!(parsed.objects[0].id.to_string(), "Namespace a");
    assert_eq!(parsed.problems[0].field, "items[1].spec.containers");
}

#[test]
fn unknown_fields_are_named_beside_a_value_that_cannot_be_read() {
    let parsed = yaml(&SERVICE.replace("port: 80", "nodeport: 1, port: many"));
    assert!(parsed.objects.is_empty());
    let found = lines(&parsed);
    assert!(
        found[0].contains("spec.ports[0].nodeport: unknown field"),
        "{found:?}"
    );
    assert!(
        found[1].ends_with(
            "spec.ports[0].port: invalid type: string \"many\", expected a whole number"
        ),
        "{found:?}"
    );
}

#[test]
fn unknown_kinds_are_kept_and_unread_versions_are_errors() {
    let parsed = yaml(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\n\
         apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: s}\n",
    );
    assert!(
        parsed
            .objects
            .iter()
            .all(|o| matches!(o.object, Object::Unknown))
    );
    assert_eq!(parsed.objects.len(), 2);
    assert_eq!(parsed.problems[0].severity, Severity::Error);
    assert_eq!(
        lines(&parsed),
        [
            "a.yaml:5: EndpointSlice.discovery.k8s.io default/s: apiVersion: \
          found version `v1beta1`, which is not read; accepted: v1"
        ]
    );
}

#[test]
fn an_anchor_bomb_is_refused_in_bounded_time() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    let parsed = yaml(&text);
    assert_eq!(parsed.problems.len(), 1);
    assert!(parsed.objects.is_empty());
}

#[test]
fn json_is_one_document() {
    let text = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}"#;
    let parsed = parse(text, &Arc::from("a.json"), Format::Json);
    assert_eq!(parsed.objects.len(), 1);
    let parsed = parse(&text[..40], &Arc::from("a.json"), Format::Json);
    assert_eq!(parsed.problems.len(), 1);
    assert_eq!(
        parse(" \n", &Arc::from("a.json"), Format::Json).rejected,
        []
    );
}

#[test]
fn every_value_that_cannot_be_read_is_named_at_once() {
    let parsed = yaml(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n\
         spec:\n  parentRefs: [{name: web, port: many}]\n  rules:\n  - backendRefs: \
         [{name: web, port: eighty}]\n    matches: [{path: {type: Prefix}}]\n",
    );
    let mut fields: Vec<_> = parsed.problems.iter().map(|one| &*one.field).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "spec.parentRefs[0].port",
            "spec.rules[0].backendRefs[0].port",
            "spec.rules[0].matches[0].path.type",
        ]
    );
    assert_eq!(parsed.rejected.len(), 1);
}

#[test]
fn what_was_taken_out_to_read_on_is_not_said_to_be_missing() {
    let parsed = yaml(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: 's'}\n\
         spec: {hosts: [a.org], ports: [{number: x, name: web}], exportTo: 7}\n",
    );
    let mut fields: Vec<_> = parsed.problems.iter().map(|one| &*one.field).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["spec.exportTo", "spec.ports[0].number"]);
    let parsed = yaml(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: null\n",
    );
    assert_eq!(
        lines(&parsed),
        [
            "a.yaml:1: VirtualService.networking.istio.io default/v: spec: invalid type: null, \
          expected a map"
        ]
    );
}

#[test]
fn lists_of_one_kind_are_unrolled_and_say_what_their_items_are() {
    let parsed = yaml(
        "apiVersion: networking.istio.io/v1\nkind: VirtualServiceList\nitems:\n\
         - {metadata: {name: a}, spec: {hosts: [x]}}\n\
         - {apiVersion: networking.istio.io/v1beta1, kind: VirtualService, metadata: {name: b}, \
         spec: {host: x}}\n",
    );
    assert_eq!(parsed.objects.len(), 1, "{:?}", lines(&parsed));
    assert_eq!(parsed.problems[0].field, "items[1].spec.host");
    let parsed =
        yaml("apiVersion: apps/v1\nkind: DeploymentList\nitems: [{metadata: {name: a}}]\n");
    assert_eq!(lines(&parsed), Vec::<String>::new());
    assert_eq!(parsed.objects.len(), 1, "a kind that is not read");
}

#[test]
fn a_kind_that_is_misspelt_is_an_error_and_another_is_none() {
    for (kind, expected) in [
        ("Virtualservice", Some("VirtualService")),
        ("VirtualServices", Some("VirtualService")),
        ("Gateway", None),
        ("VirtualServicer", None),
    ] {
        let parsed = yaml(&format!(
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\n"
        ));
        let said = lines(&parsed);
        match expected {
            None => assert_eq!(said, Vec::<String>::new(), "{kind}"),
            Some(meant) => assert!(
                said[0].ends_with(&format!(
                    "kind: found `{kind}`, which is no kind; accepted: {meant}"
                )),
                "{said:?}"
            ),
        }
    }
}

#[test]
fn merge_keys_stand_for_what_is_missing_beside_them() {
    let parsed = yaml(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n\
         \x20 - &a {name: one, port: 80}\n  - {<<: *a, name: two}\n\
         \x20 - {<<: [{port: 81}, *a], name: three}\n",
    );
    assert_eq!(lines(&parsed), Vec::<String>::new());
    let Object::Service(service) = &parsed.objects[0].object else {
        panic!("a Service");
    };
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    let ports: Vec<_> = ports
        .map(|port| (port.name.as_deref(), port.port))
        .collect();
    assert_eq!(
        ports,
        [(Some("one"), 80), (Some("two"), 80), (Some("three"), 81)]
    );
    let refused = lines(&yaml("a: {<<: 7}\n"));
    assert!(
        refused[0].contains("`<<`: found 7, accepted: a map"),
        "{refused:?}"
    );
}
