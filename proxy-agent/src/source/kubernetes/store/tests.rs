//! What comes of what an API server tells.

use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::*;
use crate::objects::Located;

const OTHER_PODS: usize = 2;
const SERVICES: usize = 3;
const SLICES: usize = 4;
const ROUTES: usize = 5;
const LINKERD_SERVICES: usize = 11;

fn service(name: &str, port: i32) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "ns", "resourceVersion": "7"},
        "spec": {"ports": [{"port": port}]}})
}

fn route(name: &str, rules: Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"rules": rules}})
}

fn item(place: usize, object: &Value) -> Item {
    let (text, kind) = (to_raw_value(object).unwrap(), &KINDS[place]);
    let from = Store::new().place().clone();
    Item::read(&text, kind, kind.versions[0], &from).unwrap()
}

fn put(store: &mut Store, place: usize, object: &Value) -> bool {
    store.put(place, item(place, object))
}

fn remove(store: &mut Store, place: usize, object: &Value) -> bool {
    store.remove(place, &item(place, object).key)
}

fn list(store: &mut Store, place: usize, objects: &[Value]) {
    store.begin_list(place);
    for object in objects {
        put(store, place, object);
    }
    store.end_list(place);
}

/// A store in which every kind is listed and empty, or absent.
fn synced() -> Store {
    let mut store = Store::new();
    for (place, kind) in KINDS.iter().enumerate() {
        match kind.follow {
            Follow::Always => list(&mut store, place, &[]),
            Follow::WhenAllowed | Follow::WhenServed | Follow::WhenPodsAreSelected => {
                store.set_phase(place, KindPhase::Absent, "", String::new());
            }
        }
    }
    assert!(store.set().synced);
    store
}

fn names(set: &ObjectSet) -> Vec<String> {
    let mut names: Vec<_> = set.objects.iter().map(|one| one.id.to_string()).collect();
    names.sort();
    names
}

fn object(set: &ObjectSet, name: &str) -> Arc<Located> {
    let mut objects = set.objects.iter();
    let found = objects.find(|one| &*one.id.name == name);
    Arc::clone(found.expect("an object"))
}

#[test]
fn objects_are_in_force_when_every_kind_that_is_there_was_listed() {
    let mut store = Store::new();
    for (place, kind) in KINDS.iter().enumerate() {
        if kind.follow == Follow::Always {
            list(&mut store, place, &[]);
        }
    }
    list(&mut store, SERVICES, &[service("a", 80)]);
    for (place, kind) in KINDS.iter().enumerate() {
        if kind.follow == Follow::WhenServed && place != ROUTES {
            store.set_phase(place, KindPhase::Absent, "", String::new());
        }
        if kind.follow == Follow::WhenAllowed {
            store.set_phase(place, KindPhase::Forbidden, "v1", "no".to_owned());
        }
    }
    assert!(
        !store.set().synced && store.set().objects.is_empty(),
        "routes may be there"
    );
    store.set_phase(ROUTES, KindPhase::Forbidden, "v1", "no".to_owned());
    assert!(store.set().synced);
    assert_eq!(names(&store.set()), ["Service ns/a"]);
}

#[test]
fn a_kind_that_only_fails_is_not_waited_for_for_ever() {
    let mut store = synced();
    store.synced = false;
    store.set_phase(
        ROUTES,
        KindPhase::Lost,
        "v1",
        "conversion failed".to_owned(),
    );
    assert!(!store.set().synced);
    for _ in 1..WAITED_FOR {
        store.set_phase(
            ROUTES,
            KindPhase::Lost,
            "v1",
            "conversion failed".to_owned(),
        );
    }
    assert!(store.set().synced);
}

#[test]
fn pods_of_other_nodes_are_waited_for_where_they_are_selected() {
    let mut store = synced();
    store.synced = false;
    let selecting = json!({"apiVersion": "linkerd.io/v1", "kind": "Service",
        "metadata": {"name": "s", "namespace": "ns"},
        "spec": {"port": 80, "host": "s", "label": "app=s"}});
    assert!(!store.selects_pods());
    list(&mut store, LINKERD_SERVICES, &[selecting]);
    assert!(store.selects_pods() && !store.set().synced);
    list(&mut store, OTHER_PODS, &[]);
    assert!(store.set().synced);
}

#[test]
fn what_is_as_it_was_is_the_same_object() {
    let mut store = synced();
    list(&mut store, SERVICES, &[service("a", 80), service("b", 80)]);
    let before = store.set();
    let mut touched = service("a", 80);
    touched["metadata"]["resourceVersion"] = json!("8");
    touched["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied": "{}"});
    assert!(!put(&mut store, SERVICES, &touched), "nothing that is read");
    assert!(put(&mut store, SERVICES, &service("b", 81)));
    let after = store.set();
    let same = |name: &str| Arc::ptr_eq(&object(&before, name), &object(&after, name));
    assert!(same("a") && !same("b"));
}

#[test]
fn a_set_shares_all_but_the_shard_of_what_changed() {
    let mut store = synced();
    let services: Vec<_> = (0..1_000).map(|n| service(&format!("s{n}"), 80)).collect();
    list(&mut store, SERVICES, &services);
    let before = store.set();
    assert!(
        before
            .objects
            .not_shared_with(&store.set().objects)
            .is_empty()
    );
    put(&mut store, SERVICES, &service("s7", 81));
    let after = store.set();
    let others = after.objects.not_shared_with(&before.objects);
    assert!(others.iter().any(|one| &*one.id.name == "s7"));
    assert!(others.len() < 100, "{} of 1,000", others.len());
    remove(&mut store, SERVICES, &service("s7", 81));
    let removed = store.set();
    assert_eq!(removed.objects.len() + 1, after.objects.len());
    let others = removed.objects.not_shared_with(&after.objects);
    assert!(others.len() < 100, "{} of 1,000", others.len());
}

#[test]
fn a_list_takes_away_what_it_does_not_name_only_at_its_end() {
    let mut store = synced();
    list(&mut store, SERVICES, &[service("a", 80), service("b", 80)]);
    store.begin_list(SERVICES);
    put(&mut store, SERVICES, &service("b", 80));
    assert_eq!(names(&store.set()), ["Service ns/a", "Service ns/b"]);
    assert!(store.end_list(SERVICES));
    assert_eq!(names(&store.set()), ["Service ns/b"]);
    assert!(remove(&mut store, SERVICES, &service("b", 80)));
    assert!(
        !remove(&mut store, SERVICES, &service("b", 80)),
        "it was gone"
    );
    assert!(names(&store.set()).is_empty());
}

#[test]
fn a_kind_that_appears_comes_into_force_whole() {
    let mut store = synced();
    store.begin_list(ROUTES);
    put(&mut store, ROUTES, &route("r", json!([])));
    assert!(names(&store.set()).is_empty(), "half a list");
    store.end_list(ROUTES);
    assert_eq!(names(&store.set()).len(), 1);
    assert!(store.clear(ROUTES), "its definition is gone");
    assert!(names(&store.set()).is_empty());
}

#[test]
fn a_version_that_cannot_be_read_leaves_the_last_one_in_force() {
    let mut store = synced();
    list(&mut store, ROUTES, &[route("r", json!([]))]);
    let before = store.set();
    assert!(put(&mut store, ROUTES, &route("r", json!("none"))));
    let bad = store.set();
    assert!(Arc::ptr_eq(&object(&before, "r"), &object(&bad, "r")));
    assert_eq!(bad.problems.len(), 1);
    assert_eq!(bad.problems[0].field, "spec.rules");
    assert!(
        !put(&mut store, ROUTES, &route("r", json!("none"))),
        "nothing new"
    );
    assert!(
        put(&mut store, ROUTES, &route("r", json!([]))),
        "it is well again"
    );
    assert!(store.set().problems.is_empty());
}

#[test]
fn a_slice_that_cannot_be_read_leaves_the_last_one_in_force() {
    let slice = |endpoints: Value| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "namespace": "ns", "resourceVersion": "7"},
            "addressType": "IPv4", "endpoints": endpoints})
    };
    let mut store = synced();
    let (first, second) = (json!([{"addresses": ["10.0.0.1"]}]), json!([]));
    list(&mut store, SLICES, &[slice(first.clone())]);
    let before = store.set();
    assert!(!put(&mut store, SLICES, &slice(first)), "as it was");
    assert!(put(&mut store, SLICES, &slice(json!("none"))));
    let bad = store.set();
    assert!(Arc::ptr_eq(
        &object(&before, "web-1"),
        &object(&bad, "web-1")
    ));
    assert_eq!(bad.problems.len(), 1);
    assert_eq!(bad.problems[0].field, "endpoints");
    assert!(put(&mut store, SLICES, &slice(second)));
    let after = store.set();
    assert!(after.problems.is_empty());
    assert_ne!(object(&before, "web-1"), object(&after, "web-1"));
    assert!(remove(&mut store, SLICES, &slice(json!("none"))));
}

#[test]
fn fields_that_only_a_newer_server_knows_are_no_problem_of_its_own_kinds() {
    let mut store = synced();
    let mut newer = service("a", 80);
    newer["spec"]["novelty"] = json!(true);
    put(&mut store, SERVICES, &newer);
    store.set_phase(ROUTES, KindPhase::Synced, "v1", String::new());
    list(&mut store, ROUTES, &[]);
    put(&mut store, ROUTES, &route("r", json!([{"novelty": true}])));
    let set = store.set();
    let name = "HTTPRoute.gateway.networking.k8s.io ns/r";
    assert_eq!(names(&set), [name, "Service ns/a"]);
    let rule = &object(&set, "r").unread;
    assert_eq!(rule[..], ["spec.rules[0]"], "it may be a condition");
    assert_eq!(set.problems.len(), 1);
}

#[test]
fn a_route_stands_whatever_others_write_into_its_status() {
    let mut store = synced();
    let mut odd = route("r", json!([]));
    odd["status"] = json!({"parents": "none"});
    list(&mut store, ROUTES, &[odd]);
    let set = store.set();
    assert_eq!((set.objects.len(), set.problems.len()), (1, 0));
}

#[test]
fn without_contact_everything_stays_and_the_trouble_says_since_when() {
    let mut store = synced();
    list(&mut store, SERVICES, &[service("a", 80)]);
    let lost = Lost {
        since: SystemTime::UNIX_EPOCH,
        why: "refused".into(),
    };
    assert!(store.set_contact(Some(lost.clone())) && !store.set_contact(Some(lost)));
    let set = store.set();
    assert!(set.synced && set.objects.len() == 1);
    let words = "no contact with the API server since 1970-01-01T00:00:00Z: refused";
    assert!(set.trouble.starts_with(words), "{}", set.trouble);
    store.set_contact(None);
    assert_eq!(store.set().trouble, "");
}

#[test]
fn an_attempt_that_ends_where_it_began_does_not_begin_the_state_anew() {
    let mut store = synced();
    let since = |store: &Store| {
        let set = store.set();
        let of = set.kinds.iter().find(|of| of.kind.starts_with("HTTPRoute"));
        of.unwrap().since
    };
    let forbid = |store: &mut Store| {
        store.set_phase(ROUTES, KindPhase::Forbidden, "v1", "no".to_owned());
    };
    forbid(&mut store);
    let first = since(&store);
    std::thread::sleep(std::time::Duration::from_millis(2));
    store.set_phase(ROUTES, KindPhase::Syncing, "v1", String::new());
    assert!(since(&store) > first, "the control: the attempt is a state");
    forbid(&mut store);
    assert_eq!(since(&store), first);
    store.set_phase(ROUTES, KindPhase::Syncing, "v1", String::new());
    store.set_phase(ROUTES, KindPhase::Synced, "v1", String::new());
    forbid(&mut store);
    assert!(since(&store) > first, "it was read in between");
}
