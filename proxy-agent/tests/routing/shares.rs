//! Weights: every destination gets its share of the draws, and none gets more.

use proptest::collection::vec;
use proptest::prelude::*;
use proxy_agent::model::{Action, Destination};
use proxy_agent::route::choose;
use serde_json::json;

use crate::scene::compile;

/// Draws, evenly spread over all that there are.
const DRAWS: u32 = 4096;
/// Between two of them: exact, so that a share is missed by less than one draw.
const STEP: u32 = 1 << (u32::BITS - DRAWS.ilog2());

proptest! {
    #[test]
    fn a_destination_gets_its_weight_over_the_sum_of_weights(
        weights in vec(prop_oneof![Just(0_u32), 1_u32..10, 1_u32..1_000_000], 1..8),
    ) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let mut items = Vec::new();
        let mut references = Vec::new();
        for (number, weight) in weights.iter().enumerate() {
            let name = format!("s{number}");
            items.push(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "name": name, "namespace": "shop" },
                "spec": { "clusterIP": format!("10.0.0.{number}"), "ports": [{ "port": 80 }] },
            }));
            references.push(json!({ "name": name, "port": 80, "weight": weight }));
        }
        items.push(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "name": "r", "namespace": "shop" },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "s0" }],
                "rules": [{ "backendRefs": references }],
            },
        }));
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        let snapshot = compile(&list.to_string(), "shares");
        let mut listeners = snapshot.listeners.iter();
        let listener = listeners.find(|one| &*one.service == "s0").expect("s0");
        let rule = listener.routes.rules.first().expect("a rule");
        let Action::Forward { destinations, .. } = &*rule.action else {
            panic!("a forward expected: {rule:?}");
        };
        let mut hits = vec![0_u32; weights.len()];
        for draw in 0..DRAWS {
            let chosen = choose(destinations, draw * STEP).expect("a destination");
            let Destination::Cluster(id) = chosen.destination else {
                panic!("a cluster expected: {chosen:?}");
            };
            let name = &snapshot.cluster(id).expect("a cluster").service;
            let number: usize = name[1..].parse().expect("a number");
            hits[number] += 1;
        }
        prop_assert_eq!(hits.iter().sum::<u32>(), DRAWS);
        let total: u32 = weights.iter().sum();
        for (weight, hits) in weights.iter().zip(hits) {
            let expected = f64::from(DRAWS) * f64::from(*weight) / f64::from(total);
            prop_assert!((f64::from(hits) - expected).abs() <= 1.0, "{hits} of {expected}");
            prop_assert!(*weight > 0 || hits == 0, "nothing for a weight of 0");
        }
    }
}
