//! For which clients DestinationRules count.

use super::traffic_policies::cluster;
use super::{compile, listener, problems, service};
use crate::model::{ListenerProtocol, ListenerVerdict, Snapshot};

fn rule_in(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{host: web.ns.svc.cluster.local, {spec}}}\n---\n"
    )
}

#[test]
fn a_policy_counts_for_the_clients_that_see_it() {
    const TURNS: &str = "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}";
    const RANDOM: &str = "trafficPolicy: {loadBalancer: {simple: RANDOM}}";
    let own = |namespace: &str, export: &str, policy: &str| {
        rule_in(namespace, "r", &format!("exportTo: [{export}], {policy}"))
    };
    let all = |namespace: &str, policy: &str| own(namespace, "'*'", policy);
    // Balancers for clients of `ns`, `shop` and others.
    for (rules, expected) in [
        (all("ns", RANDOM), ["random"; 3]),
        (
            own("ns", ".", RANDOM),
            ["random", "least-request", "least-request"],
        ),
        (
            own("ns", "shop", RANDOM),
            ["least-request", "random", "least-request"],
        ),
        (own("ns", "'~'", RANDOM), ["least-request"; 3]),
        // A client's own namespace comes first, and is for its own clients alone.
        (
            all("shop", TURNS),
            ["least-request", "round-robin", "least-request"],
        ),
        (
            all("ns", RANDOM) + &all("shop", TURNS),
            ["random", "round-robin", "random"],
        ),
        (
            all("ns", RANDOM) + &own("shop", "blog", TURNS),
            ["random"; 3],
        ),
        (
            all("ns", RANDOM) + &rule_in("shop", "r", "subsets: [{name: v1}]"),
            ["random", "least-request", "random"],
        ),
        (all("istio-system", TURNS), ["round-robin"; 3]),
        (
            all("istio-system", TURNS) + &own("ns", "shop", RANDOM),
            ["round-robin", "random", "round-robin"],
        ),
    ] {
        let snapshot = compile(&(service("web", 80) + &rules));
        assert_eq!(problems(&snapshot), Vec::<String>::new());
        let web = cluster(&snapshot, "ns/web:80");
        let found = ["ns", "shop", "blog"].map(|client| web.policy_for(client).balance.name());
        assert_eq!(found, expected, "{rules}");
    }
}

#[test]
fn direct_connections_know_no_clients_and_it_is_said() {
    let rule = rule_in(
        "ns",
        "r",
        "exportTo: [shop], trafficPolicy: {loadBalancer: {simple: RANDOM}}",
    );
    let direct = service("web", 80).replace(
        "metadata: {",
        "metadata: {annotations: {proxy-agent.io/mode: direct}, ",
    );
    let opaque = service("web", 80).replace("{port: 80}", "{name: tcp-db, port: 80}");
    let said = problems(&compile(&(direct + &rule)));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("spec.trafficPolicy.loadBalancer: direct connections"),
        "{said:?}"
    );
    // Without the annotation, the agent carries them.
    let snapshot = compile(&(opaque.clone() + &rule));
    assert_eq!(problems(&snapshot), Vec::<String>::new());
    let verdict = |of: &Snapshot| listener(of, "web", 80).verdict;
    let by_the_agent = ListenerVerdict::Proxy(ListenerProtocol::Tcp);
    assert_eq!(verdict(&snapshot), by_the_agent);
    let everybodys = rule.replace("[shop]", "['*']");
    assert_eq!(
        verdict(&compile(&(opaque + &everybodys))),
        ListenerVerdict::Direct
    );
}
