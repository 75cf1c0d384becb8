//! What stays the same from one snapshot to the next.

use std::sync::Arc;

use super::{listener, service, set};
use crate::compile::{Compiler, Options};
use crate::objects::Origin;

#[test]
fn cluster_ids_and_given_addresses_stay_when_others_come_and_go() {
    let mut compiler = Compiler::default();
    let options = Options::default();
    let both = [set(&(service("a", 80) + &service("b", 80)), Origin::Files)];
    let first = compiler.compile(&both, &options);
    let only = [set(&service("b", 80), Origin::Files)];
    let second = compiler.compile(&only, &options);
    let third = compiler.compile(&both, &options);
    let of = |snapshot, name| {
        let listener = listener(snapshot, name, 80);
        (listener.cluster, listener.addresses.clone())
    };
    assert_eq!(of(&first, "b"), of(&second, "b"));
    assert_eq!(of(&first, "b"), of(&third, "b"));
    assert_eq!(
        of(&first, "a").1,
        of(&third, "a").1,
        "a returning Service finds its address"
    );
    assert_eq!((first.version, second.version, third.version), (1, 2, 3));
    assert_eq!(second.clusters.iter().count(), 1);
}

#[test]
fn an_address_is_the_same_in_another_process() {
    let sets = [set(&service("a", 80), Origin::Files)];
    let one = Compiler::default().compile(&sets, &Options::default());
    assert_eq!(one.listeners[0].addresses[0].to_string(), "10.111.73.3:80");
}

#[test]
fn a_sources_trouble_is_among_the_problems() {
    let mut troubled = (*set(&service("a", 80), Origin::Files)).clone();
    troubled.trouble = "the directory is gone".to_owned();
    let sets = [Arc::new(troubled)];
    let snapshot = Compiler::default().compile(&sets, &Options::default());
    assert_eq!(super::problems(&snapshot), ["test: the directory is gone"]);
    assert_eq!(snapshot.listeners.len(), 1, "its objects stay");
}

#[test]
fn of_an_object_in_two_sources_the_first_counts() {
    let sets = [
        set(&service("a", 80), Origin::Files),
        set(&service("a", 81), Origin::Cluster),
    ];
    let snapshot = Compiler::default().compile(&sets, &Options::default());
    assert_eq!(snapshot.listeners.len(), 1);
    assert_eq!(snapshot.listeners[0].port, 80);
    assert_eq!(snapshot.problems.len(), 1);
    assert!(
        snapshot.problems[0].reason.contains("t.yaml:1"),
        "{}",
        snapshot.problems[0]
    );
}
