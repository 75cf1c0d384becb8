//! What rules do beside sending requests on, as each dialect writes it.

use std::time::Duration;

use super::{compile, listener, only_problem, problems, service};
use crate::model::{
    Backoff, Destination, Listed, Policies, Rule, SessionCarrier, Share, Snapshot, StringMatch,
};

const TO_B: &str = "backendRefs: [{name: b, port: 80}]";

/// Services `web` and `b`, and an HTTPRoute of one rule on `web`.
fn http_route(rule: &str) -> Snapshot {
    compile(
        &(service("web", 80)
            + &service("b", 80)
            + &format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
             metadata: {{name: r, namespace: ns, uid: u-1234}}\n\
             spec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: [{{{rule}}}]}}\n"
            )),
    )
}

fn rule(snapshot: &Snapshot) -> &Rule {
    assert_eq!(problems(snapshot), Vec::<String>::new());
    &listener(snapshot, "web", 80).routes.rules[0]
}

fn policies(snapshot: &Snapshot) -> &Policies {
    rule(snapshot).policies.as_deref().expect("policies")
}

#[test]
fn a_rule_without_policies_has_none() {
    let snapshot = http_route(TO_B);
    assert!(rule(&snapshot).policies.is_none());
}

#[test]
fn retries_of_gateway_api_cover_the_connection_and_the_codes() {
    let snapshot = http_route(&format!("retry: {{codes: [503, 500]}}, {TO_B}"));
    let retry = policies(&snapshot).retry.as_ref().expect("a retry");
    assert_eq!(retry.attempts, 2);
    assert_eq!(retry.on.statuses, [503..=503, 500..=500]);
    assert!(retry.on.connect_failure && retry.on.refused_stream && retry.on.reset);
    assert_eq!(retry.backoff, Backoff::default());
    let snapshot = http_route(&format!("retry: {{attempts: 5, backoff: 100ms}}, {TO_B}"));
    let retry = policies(&snapshot).retry.as_ref().expect("a retry");
    assert_eq!(retry.attempts, 5);
    assert_eq!(retry.backoff.floor, Duration::from_millis(100));
    let snapshot = http_route(&format!("retry: {{attempts: 0, codes: [503]}}, {TO_B}"));
    assert!(rule(&snapshot).policies.is_none(), "0 turns it off");
}

#[test]
fn mirrors_are_several_and_each_has_its_share() {
    let mirror = |share: &str| {
        format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: b, port: 80}}{share}}}}}"
        )
    };
    let filters = [
        mirror(""),
        mirror(", percent: 20"),
        mirror(", fraction: {numerator: 1, denominator: 1000}"),
    ];
    let snapshot = http_route(&format!("filters: [{}], {TO_B}", filters.join(", ")));
    let mirrors = &policies(&snapshot).mirrors;
    let shares: Vec<_> = mirrors
        .iter()
        .map(|one| (one.share.numerator, one.share.denominator))
        .collect();
    assert_eq!(shares, [(1, 1), (20, 100), (1, 1_000)]);
    assert!(mirrors.iter().all(|one| !one.shadow_host));
}

#[test]
fn a_mirror_that_leads_nowhere_is_named_and_harms_nothing() {
    let snapshot = http_route(&format!(
        "filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: gone, port: 80}}}}}}], {TO_B}"
    ));
    let problem = only_problem(&snapshot);
    assert!(
        problem.contains("spec.rules[0].filters[0].requestMirror.backendRef.name: no Service"),
        "{problem}"
    );
    assert!(
        listener(&snapshot, "web", 80).routes.rules[0]
            .policies
            .is_none()
    );
}

#[test]
fn origins_are_any_one_of_a_pattern_or_one() {
    let snapshot = http_route(&format!(
        "filters: [{{type: CORS, cors: {{allowOrigins: ['https://a.example', 'http://*.b.example', '*'], \
         allowMethods: [GET, PUT], allowHeaders: ['*'], exposeHeaders: [x-a], allowCredentials: true}}}}], {TO_B}"
    ));
    let cors = policies(&snapshot).cors.as_ref().expect("cors");
    assert!(matches!(&cors.origins[0], StringMatch::Exact(one) if &**one == "https://a.example"));
    assert!(matches!(&cors.origins[2], StringMatch::Present));
    for (origin, expected) in [
        ("http://x.b.example", true),
        ("http://x.y.b.example", true),
        ("http://b.example", false),
        ("http://xxb.example", false),
        ("https://x.b.example", false),
    ] {
        assert_eq!(cors.origins[1].holds(origin), expected, "{origin}");
    }
    assert_eq!(
        cors.methods,
        Listed::Names("GET, PUT".parse().expect("a value"))
    );
    assert_eq!(cors.headers, Listed::Asked);
    assert_eq!(cors.expose.as_ref().expect("a header"), "x-a");
    assert_eq!(cors.max_age.as_ref().expect("a header"), "5");
    assert!(cors.credentials && !cors.forward_unmatched);
}

#[test]
fn sessions_are_by_cookie_unless_a_header_is_asked_for() {
    let snapshot = http_route(&format!("sessionPersistence: {{}}, {TO_B}"));
    let session = policies(&snapshot).session.as_ref().expect("a session");
    assert!(
        matches!(&session.carrier, SessionCarrier::Cookie { name, permanent: false } if &**name == "ns.r.0")
    );
    assert_eq!(&*session.key, "u-1234", "the uid, which nobody can guess");
    assert_eq!(session.absolute_timeout, None);
    let snapshot = http_route(&format!(
        "sessionPersistence: {{type: Header, sessionName: X-S, absoluteTimeout: 1h}}, {TO_B}"
    ));
    let session = policies(&snapshot).session.as_ref().expect("a session");
    assert!(matches!(&session.carrier, SessionCarrier::Header(name) if name == "x-s"));
    assert_eq!(session.absolute_timeout, Some(Duration::from_secs(3_600)));
}

#[test]
fn a_share_is_hit_by_as_many_draws() {
    for (numerator, denominator) in [(0, 100), (1, 100), (50, 100), (1, 1), (999_999, 1_000_000)] {
        let share = Share {
            numerator,
            denominator,
        };
        let hits = (0..1_000_u32)
            .filter(|step| share.hits(step * (u32::MAX / 1_000)))
            .count();
        let expected = 1_000.0 * f64::from(numerator) / f64::from(denominator);
        assert!((hits as f64 - expected).abs() <= 1.0, "{share:?}: {hits}");
    }
    assert!(Share::ALL.hits(u32::MAX));
}

#[test]
fn a_mirrors_cluster_is_that_of_its_service() {
    let snapshot = http_route(&format!(
        "filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: b, port: 80}}}}}}], {TO_B}"
    ));
    let Destination::Cluster(id) = policies(&snapshot).mirrors[0].to else {
        panic!("no cluster");
    };
    assert_eq!(&*snapshot.cluster(id).expect("a cluster").name, "ns/b:80");
}
