//! Which routes of connections the kernel follows, and which need the agent.

use super::listener;
use super::streams::{WEB, gateway, virtual_service, with};
use crate::model::{ListenerProtocol, ListenerVerdict};

#[test]
fn connections_that_a_route_only_shares_out_go_direct_and_others_through_the_agent() {
    use ListenerVerdict::{Direct, Proxy};
    let tcp = |refs: &str| {
        let spec = format!("parentRefs: [{WEB}], rules: [{{backendRefs: [{refs}]}}]");
        gateway("TCPRoute", "r", &spec)
    };
    let istio = |matches: &str| {
        let to =
            "route: [{destination: {host: a}, weight: 1}, {destination: {host: b}, weight: 3}]";
        virtual_service("v", &format!("tcp: [{{{matches}{to}}}]"))
    };
    let for_one = tcp("{name: a, port: 80}").replace("namespace: ns}\n", "namespace: shop}\n");
    let for_one = for_one.replace("name: web}", "name: web, namespace: ns}");
    for (route, expected, shares) in [
        (String::new(), Direct, None),
        (
            tcp("{name: a, port: 80, weight: 9}, {name: b, port: 80}"),
            Direct,
            Some(vec![9, 1]),
        ),
        (
            tcp("{name: a, port: 80, weight: 0}, {name: b, port: 80}"),
            Direct,
            Some(vec![0, 1]),
        ),
        (istio(""), Direct, Some(vec![1, 3])),
        (istio("match: [{port: 5432}], "), Direct, Some(vec![1, 3])),
        // The agent names what is invalid, and knows who the client is.
        (
            tcp("{name: a, port: 80}, {name: gone, port: 80}"),
            Proxy(ListenerProtocol::Tcp),
            None,
        ),
        (
            tcp("{name: a, port: 80, weight: 0}"),
            Proxy(ListenerProtocol::Tcp),
            None,
        ),
        (
            istio("match: [{sourceNamespace: shop}], "),
            Proxy(ListenerProtocol::Tcp),
            None,
        ),
        (for_one, Proxy(ListenerProtocol::Tcp), None),
    ] {
        let snapshot = with(&route);
        let web = listener(&snapshot, "web", 5432);
        assert_eq!(web.verdict, expected, "{route}");
        let found = web.direct_destinations();
        let found = found.map(|all| all.iter().map(|one| one.weight).collect::<Vec<_>>());
        assert_eq!(found, shares, "{route}");
    }
}
