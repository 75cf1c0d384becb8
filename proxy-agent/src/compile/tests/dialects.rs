//! One Service, several dialects: which decides, and that the others are shown.

use super::{ask, compile, listener, problems, service};
use crate::model::Snapshot;

/// The dialects in their order, each with an object that sends everything to the Service of its
/// own name, for all clients or for those of namespace `shop` alone.
const ORDER: [(&str, &str); 8] = [
    (
        "consumer",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: consumer, namespace: shop}\n\
         spec: {parentRefs: [{group: '', kind: Service, name: web, namespace: ns}], \
         rules: [{backendRefs: [{name: consumer, port: 80}]}]}",
    ),
    (
        "grpc",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: grpc, namespace: ns}\n\
         spec: {parentRefs: [{group: '', kind: Service, name: web}], \
         rules: [{backendRefs: [{name: grpc, port: 80}]}]}",
    ),
    (
        "producer",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: producer, namespace: ns}\n\
         spec: {parentRefs: [{group: '', kind: Service, name: web}], \
         rules: [{backendRefs: [{name: producer, port: 80}]}]}",
    ),
    (
        "policy-consumer",
        "apiVersion: policy.linkerd.io/v1beta3\nkind: HTTPRoute\nmetadata: {name: policy-consumer, namespace: shop}\n\
         spec: {parentRefs: [{group: core, kind: Service, name: web, namespace: ns}], \
         rules: [{backendRefs: [{name: policy-consumer, port: 80}]}]}",
    ),
    (
        "policy",
        "apiVersion: policy.linkerd.io/v1beta3\nkind: HTTPRoute\nmetadata: {name: policy, namespace: ns}\n\
         spec: {parentRefs: [{group: core, kind: Service, name: web}], \
         rules: [{backendRefs: [{name: policy, port: 80}]}]}",
    ),
    (
        "virtual",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: virtual, namespace: ns}\n\
         spec: {hosts: [web], http: [{route: [{destination: {host: virtual}}]}]}",
    ),
    (
        "profile",
        "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: web.ns.svc.cluster.local, namespace: ns}\n\
         spec: {dstOverrides: [{authority: profile, weight: 1m}]}",
    ),
    (
        "split",
        "apiVersion: split.smi-spec.io/v1alpha1\nkind: TrafficSplit\nmetadata: {name: split, namespace: ns}\n\
         spec: {service: web, backends: [{service: split, weight: 1m}]}",
    ),
];

fn with(objects: &[&(&str, &str)]) -> Snapshot {
    let mut text = service("web", 80);
    for (name, object) in objects {
        let namespace = if name.ends_with("consumer") {
            "shop"
        } else {
            "ns"
        };
        text.push_str(
            &service(name, 80).replace("namespace: ns", &format!("namespace: {namespace}")),
        );
        text.push_str(object);
        text.push_str("\n---\n");
    }
    compile(&text)
}

/// Where a client of a namespace is sent.
fn decides(snapshot: &Snapshot, client: &str) -> String {
    let answer = ask(
        listener(snapshot, "web", 80).routes_for(client),
        snapshot,
        "GET /",
    );
    let answer = answer.split_once('/').map_or(&*answer, |(_, name)| name);
    answer.split(':').next().unwrap_or_default().to_owned()
}

fn only_for_shop(name: &str) -> bool {
    name.ends_with("consumer")
}

#[test]
fn each_dialect_alone_decides() {
    for one in &ORDER {
        let snapshot = with(&[one]);
        assert_eq!(problems(&snapshot), Vec::<String>::new(), "{}", one.0);
        assert_eq!(decides(&snapshot, "shop"), one.0);
        let other = if only_for_shop(one.0) { "web" } else { one.0 };
        assert_eq!(decides(&snapshot, "elsewhere"), other);
        assert_eq!(listener(&snapshot, "web", 80).shadowed, []);
    }
}

#[test]
fn of_every_two_the_first_decides_and_the_second_is_shown() {
    for (index, first) in ORDER.iter().enumerate() {
        for second in &ORDER[index + 1..] {
            // In either order of the text: what decides is the dialect.
            for objects in [[first, second], [second, first]] {
                let snapshot = with(&objects);
                let names = (first.0, second.0);
                assert_eq!(decides(&snapshot, "shop"), first.0, "{names:?}");
                let elsewhere = match names {
                    (one, two) if only_for_shop(one) && only_for_shop(two) => "web",
                    (one, two) if only_for_shop(one) => two,
                    (one, _) => one,
                };
                assert_eq!(decides(&snapshot, "elsewhere"), elsewhere, "{names:?}");
                shown(&snapshot, first.0, second.0);
            }
        }
    }
}

/// That the second is shadowed by the first, unless there are clients that it decides for.
fn shown(snapshot: &Snapshot, first: &str, second: &str) {
    let shadowed = &listener(snapshot, "web", 80).shadowed;
    let name = |name: &str| match name {
        "profile" => "web.ns.svc.cluster.local".to_owned(),
        name => name.to_owned(),
    };
    let has_clients = only_for_shop(first) && !only_for_shop(second);
    if has_clients {
        assert_eq!(*shadowed, [], "{first} {second}");
        assert_eq!(problems(snapshot), Vec::<String>::new());
        return;
    }
    let [one] = &shadowed[..] else {
        panic!("{first} {second}: {shadowed:?}");
    };
    assert_eq!(
        (&*one.object.name, &*one.by.name),
        (&*name(second), &*name(first))
    );
    let problems = problems(snapshot);
    let [problem] = &problems[..] else {
        panic!("{first} {second}: {problems:?}");
    };
    let words = format!("of no effect on Service ns/web: {} decides", one.by);
    assert!(problem.contains(&words), "{problem}");
}

#[test]
fn two_splits_do_not_add_up() {
    let split = ORDER[7].1;
    let other = split
        .replace("name: split", "name: younger")
        .replace("service: split", "service: web");
    let snapshot = with(&[&ORDER[7], &("other", &other)]);
    assert_eq!(decides(&snapshot, "ns"), "split");
    let shadowed = &listener(&snapshot, "web", 80).shadowed;
    assert_eq!(shadowed.len(), 1);
    assert_eq!(&*shadowed[0].object.name, "younger");
}
