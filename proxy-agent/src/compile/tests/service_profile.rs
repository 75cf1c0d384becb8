//! Linkerd's ServiceProfile.

use std::time::Duration;

use super::{ask, compile, listener, only_problem, problems, service};
use crate::model::{ListenerProtocol, ListenerVerdict, Rule, Snapshot};

/// A ServiceProfile of `web` in a namespace.
fn profile_in(namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\n\
         metadata: {{name: web.ns.svc.cluster.local, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn with(spec: &str) -> Snapshot {
    compile(&(service("web", 80) + &service("b", 80) + &profile_in("ns", spec)))
}

fn answers(snapshot: &Snapshot, line: &str) -> String {
    ask(&listener(snapshot, "web", 80).routes, snapshot, line)
}

/// Field of the rule that a request falls under.
fn rule<'a>(snapshot: &'a Snapshot, field: &str) -> &'a Rule {
    let mut rules = listener(snapshot, "web", 80).routes.rules.iter();
    let found = rules.find(|rule| &*rule.field == field);
    found.unwrap_or_else(|| panic!("no rule {field}"))
}

/// Whether a request falls under a route of this condition, which is told by a fault of the route.
fn matches(condition: &str, line: &str) -> bool {
    let snapshot = with(&format!(
        "routes: [{{name: r, condition: {condition}, timeout: never}}]"
    ));
    let problem = only_problem(&snapshot);
    assert!(problem.contains("timeout: found `never`"), "{problem}");
    answers(&snapshot, line) == "500 invalid_route"
}

#[test]
fn conditions_are_paths_methods_and_what_joins_them() {
    for (condition, line, expected) in [
        ("{pathRegex: /books}", "GET /books", true),
        ("{pathRegex: /books}", "GET /books/1", false),
        ("{pathRegex: /books}", "GET /x/books", false),
        (r"{pathRegex: '/books/[^/]*'}", "GET /books/1", true),
        ("{pathRegex: '/a|/b'}", "GET /b", true),
        ("{pathRegex: '/a|/b'}", "GET /bc", false),
        ("{method: GET}", "GET /x", true),
        ("{method: get}", "GET /x", true),
        ("{method: GET}", "POST /x", false),
        ("{pathRegex: /a, method: GET}", "GET /a", true),
        ("{pathRegex: /a, method: GET}", "POST /a", false),
        ("{all: [{method: GET}, {pathRegex: /a}]}", "GET /a", true),
        ("{all: [{method: GET}, {pathRegex: /a}]}", "GET /b", false),
        ("{all: []}", "GET /b", true),
        ("{any: [{method: PUT}, {pathRegex: /a}]}", "GET /a", true),
        ("{any: [{method: PUT}, {pathRegex: /a}]}", "PUT /b", true),
        ("{any: [{method: PUT}, {pathRegex: /a}]}", "GET /b", false),
        ("{any: []}", "GET /b", false),
        ("{not: {method: GET}}", "GET /a", false),
        ("{not: {method: GET}}", "PUT /a", true),
        ("{method: GET, not: {pathRegex: '/a.*'}}", "GET /ab", false),
        ("{method: GET, not: {pathRegex: '/a.*'}}", "GET /b", true),
        (
            "{not: {any: [{method: GET}, {all: [{method: PUT}, {pathRegex: /a}]}]}}",
            "PUT /a",
            false,
        ),
        (
            "{not: {any: [{method: GET}, {all: [{method: PUT}, {pathRegex: /a}]}]}}",
            "PUT /b",
            true,
        ),
    ] {
        assert_eq!(matches(condition, line), expected, "{condition} {line}");
    }
}

#[test]
fn what_no_route_matches_goes_on_as_without_a_profile() {
    let snapshot = with(
        "routes: [{name: a, condition: {pathRegex: /a}, timeout: 1s}, \
         {name: all, condition: {method: GET}, timeout: 2s}]",
    );
    assert_eq!(answers(&snapshot, "GET /a"), "ns/web:80*1");
    assert_eq!(answers(&snapshot, "PUT /x"), "ns/web:80*1");
    let limits = |field| rule(&snapshot, field).timeouts.request;
    assert_eq!(limits("spec.routes[0]"), Some(Duration::from_secs(1)));
    assert_eq!(limits("spec.routes[1]"), Some(Duration::from_secs(2)));
    assert_eq!(limits("spec"), None);
    assert_eq!(
        listener(&snapshot, "web", 80).verdict,
        ListenerVerdict::Proxy(ListenerProtocol::Http)
    );
}

#[test]
fn a_retryable_route_is_retried_within_the_profiles_budget() {
    let snapshot = with(
        "retryBudget: {retryRatio: 0.1, minRetriesPerSecond: 3, ttl: 30s}, \
         routes: [{name: r, condition: {method: GET}, isRetryable: true}, \
         {name: n, condition: {method: PUT}}]",
    );
    let policies = rule(&snapshot, "spec.routes[0]").policies.as_deref();
    let retry = policies.and_then(|of| of.retry.as_ref()).expect("a retry");
    let budget = retry.budget.expect("a budget");
    assert_eq!((budget.per_million, budget.min_per_second), (100_000, 3));
    assert_eq!(budget.ttl, Duration::from_secs(30));
    assert_eq!(retry.on.statuses, [500..=599]);
    assert_eq!(retry.on.grpc, [2, 4, 13, 14, 15]);
    assert!(rule(&snapshot, "spec.routes[1]").policies.is_none());
    let snapshot = with("routes: [{name: r, condition: {method: GET}, isRetryable: true}]");
    let policies = rule(&snapshot, "spec.routes[0]").policies.as_deref();
    let retry = policies.and_then(|of| of.retry.as_ref()).expect("a retry");
    assert_eq!(retry.budget, Some(Default::default()), "Linkerd's default");
}

#[test]
fn response_classes_say_what_is_a_failure_and_is_retried() {
    for (classes, expected) in [
        (
            "{condition: {status: {min: 404, max: 404}}, isFailure: true}",
            vec![404..=404, 500..=599],
        ),
        (
            "{condition: {status: {min: 500, max: 502}}}",
            vec![503..=599],
        ),
        (
            "{condition: {status: {min: 400}}, isFailure: true}",
            vec![400..=599],
        ),
        ("{condition: {status: {max: 599}}}", vec![]),
        (
            "{condition: {status: {min: 503, max: 503}}}, {condition: {status: {min: 429}}, isFailure: true}",
            vec![429..=502, 504..=599],
        ),
        (
            "{condition: {all: [{status: {min: 400}}, {not: {status: {min: 404, max: 404}}}]}, isFailure: true}",
            vec![400..=403, 405..=599],
        ),
        (
            "{condition: {any: [{status: {min: 400, max: 400}}, {status: {min: 500}}]}, isFailure: true}",
            vec![400..=400, 500..=599],
        ),
    ] {
        let snapshot = with(&format!(
            "routes: [{{name: r, condition: {{method: GET}}, isRetryable: true, responseClasses: [{classes}]}}]"
        ));
        assert_eq!(problems(&snapshot), Vec::<String>::new(), "{classes}");
        let policies = rule(&snapshot, "spec.routes[0]")
            .policies
            .as_deref()
            .expect("policies");
        assert_eq!(policies.failures, Some(expected.clone()), "{classes}");
        let retry = policies.retry.as_ref().expect("a retry");
        assert_eq!(retry.on.statuses, expected, "{classes}");
        assert_eq!(
            policies.is_failure(404),
            expected.iter().any(|r| r.contains(&404))
        );
    }
}

#[test]
fn destinations_are_weighted_by_quantities() {
    let snapshot = with(
        "dstOverrides: [{authority: 'web.ns.svc.cluster.local:80', weight: 900m}, \
         {authority: b.ns.svc.cluster.local, weight: '0.1'}]",
    );
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    assert_eq!(answers(&snapshot, "GET /"), "ns/web:80*900 ns/b:80*100");
}

#[test]
fn a_clients_namespace_has_its_own_word_before_the_services() {
    let text = service("web", 80)
        + &profile_in(
            "ns",
            "routes: [{name: r, condition: {method: GET}, timeout: 1s}]",
        )
        + &profile_in(
            "shop",
            "routes: [{name: r, condition: {method: GET}, timeout: 2s}]",
        );
    let snapshot = compile(&text);
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let listener = listener(&snapshot, "web", 80);
    let limit = |client: &str| listener.routes_for(client).rules[0].timeouts.request;
    assert_eq!(limit("shop"), Some(Duration::from_secs(2)));
    assert_eq!(limit("ns"), Some(Duration::from_secs(1)));
    assert_eq!(limit("other"), Some(Duration::from_secs(1)));
}

#[test]
fn opaque_ports_are_not_http_whatever_they_are_called() {
    let named = service("web", 80).replace("port: 80", "name: http, port: 80");
    for (ports, expected) in [
        ("['80']", ListenerVerdict::Direct),
        ("[80]", ListenerVerdict::Direct),
        ("['79-81']", ListenerVerdict::Direct),
        ("['81']", ListenerVerdict::Proxy(ListenerProtocol::Http)),
    ] {
        let snapshot =
            compile(&(named.clone() + &profile_in("ns", &format!("opaquePorts: {ports}"))));
        assert_eq!(problems(&snapshot), Vec::<String>::new(), "{ports}");
        let verdict = listener(&snapshot, "web", 80).verdict;
        assert_eq!(verdict, expected, "{ports}");
    }
    let snapshot = compile(&(named + &profile_in("shop", "opaquePorts: ['80']")));
    assert_eq!(
        only_problem(&snapshot),
        "ServiceProfile.linkerd.io shop/web.ns.svc.cluster.local: spec.opaquePorts: accepted, not \
         enforced: which ports are opaque is said in the Service's own namespace"
    );
}

#[test]
fn faults_are_named_and_harm_their_own_route_alone() {
    let deep = "{not: ".repeat(9) + "{method: GET}" + &"}".repeat(9);
    for (route, expected) in [
        (
            "condition: {pathRegex: '('}".to_owned(),
            "spec.routes[0].condition.pathRegex: found `(`, which is no regular expression",
        ),
        (
            "condition: {}".to_owned(),
            "spec.routes[0].condition: says nothing; accepted: pathRegex, method, all, any, not",
        ),
        (
            "condition: {any: [{}]}".to_owned(),
            "spec.routes[0].condition.any[0]: says nothing",
        ),
        (
            format!("condition: {deep}"),
            "is more than 8 conditions deep; the route is left out",
        ),
        (
            "condition: {method: GET}, timeout: soon".to_owned(),
            "spec.routes[0].timeout: found `soon`, expected a duration",
        ),
        (
            "condition: {method: GET}, responseClasses: [{condition: {status: {min: 600}}}]"
                .to_owned(),
            "spec.routes[0].responseClasses[0].condition.status: found 600 to 599, accepted",
        ),
        (
            "condition: {method: GET}, responseClasses: [{condition: {}}]".to_owned(),
            "spec.routes[0].responseClasses[0].condition: says nothing",
        ),
    ] {
        let snapshot = with(&format!(
            "routes: [{{name: r, {route}}}, {{name: good, condition: {{pathRegex: /good}}}}]"
        ));
        let problem = only_problem(&snapshot);
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(answers(&snapshot, "PUT /good"), "ns/web:80*1", "{route}");
    }
    let snapshot = with(
        "retryBudget: {retryRatio: -1, minRetriesPerSecond: 1, ttl: 1s}, \
         routes: [{name: r, condition: {method: GET}, isRetryable: true}]",
    );
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains(" spec.retryBudget.retryRatio: found -1, accepted"),
        "{problem}"
    );
    assert_eq!(answers(&snapshot, "GET /"), "500 invalid_route");
    assert_eq!(answers(&snapshot, "PUT /"), "ns/web:80*1");
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let snapshot = with(
        "retryBudget: {retryRatio: -1, minRetriesPerSecond: 1, ttl: 2h}, routes: [\
         {name: r, condition: {all: [{pathRegex: '('}, {}], not: {method: 'a b'}}, timeout: never, \
         responseClasses: [{condition: {}}, {condition: {status: {min: 7}}}]}]",
    );
    let mut fields: Vec<_> = snapshot.problems.iter().map(|one| &*one.field).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "spec.retryBudget.retryRatio",
            "spec.retryBudget.ttl",
            "spec.routes[0].condition.all[0].pathRegex",
            "spec.routes[0].condition.all[1]",
            "spec.routes[0].condition.not.method",
            "spec.routes[0].responseClasses[0].condition",
            "spec.routes[0].responseClasses[1].condition.status",
            "spec.routes[0].timeout",
        ]
    );
}

#[test]
fn a_budget_is_judged_whether_a_route_goes_by_it_or_not() {
    let budget = "retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 1, ttl: 0s}";
    for (routes, line, expected) in [
        ("", "GET /", "ns/web:80*1"),
        (
            "routes: [{name: r, condition: {method: GET}}]",
            "GET /",
            "ns/web:80*1",
        ),
        (
            "routes: [{name: r, condition: {method: GET}, isRetryable: true}]",
            "GET /",
            "500 invalid_route",
        ),
        (
            "routes: [{name: r, condition: {method: GET}, isRetryable: true}]",
            "PUT /",
            "ns/web:80*1",
        ),
    ] {
        let snapshot = with(&format!("{budget}, {routes}"));
        let problem = only_problem(&snapshot);
        assert!(
            problem.contains("spec.retryBudget.ttl: found `0s`"),
            "{problem}"
        );
        assert_eq!(answers(&snapshot, line), expected, "{routes}");
        let sound = with(&format!("{}, {routes}", budget.replace("0s", "10s")));
        assert_eq!(problems(&sound), Vec::<String>::new());
    }
}

#[test]
fn a_destination_that_leads_nowhere_keeps_its_share() {
    for (authority, expected) in [
        ("gone.ns.svc.cluster.local:80", "no Service ns/gone"),
        ("b:81", "Service ns/b has no TCP port 81; it has: 80"),
        ("example.com:80", "no Service com/example"),
        (
            "www.example.com:80",
            "found `www.example.com:80`, which is no name of a Service",
        ),
        ("b:x", "found `b:x`, expected host:port"),
    ] {
        let snapshot = with(&format!(
            "dstOverrides: [{{authority: '{authority}', weight: 1}}, {{authority: 'b:80', weight: 1}}]"
        ));
        let problem = only_problem(&snapshot);
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(answers(&snapshot, "GET /"), "invalid*1000 ns/b:80*1000");
    }
}

#[test]
fn a_profile_of_no_service_is_named() {
    let other = |name: &str| profile_in("ns", "").replace("web.ns.svc.cluster.local", name);
    for name in ["gone.ns.svc.cluster.local", "web", "example.com"] {
        let snapshot = compile(&(service("web", 80) + &other(name)));
        let problem = only_problem(&snapshot);
        assert!(problem.contains("metadata.name: found"), "{problem}");
    }
}
