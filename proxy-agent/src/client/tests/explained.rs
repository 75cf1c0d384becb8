//! An explanation with something at every stage.

use crate::status::{ExplainedCluster, ExplainedEndpoint, Explanation};

pub(super) fn explanation() -> Explanation {
    Explanation {
        from: "shop/web, captured".into(),
        verdict: "proxy".into(),
        listener: "shop/cart:80".into(),
        address: "10.96.0.10:80".into(),
        path: "/a".into(),
        origin: "HTTPRoute shop/cart".into(),
        route: "HTTPRoute shop/cart spec.rules[1]".into(),
        near_misses: vec!["HTTPRoute shop/cart spec.rules[0]: needs path = /b, found /a".into()],
        more_misses: 2,
        shadowed: vec!["VirtualService shop/cart: HTTPRoute shop/cart decides".into()],
        action: vec!["sets request header x-a: 1".into()],
        clusters: vec![ExplainedCluster {
            name: "shop/cart:80".into(),
            weight: 9,
            share_percent: 90.0,
            balance: "least-request".into(),
            action: vec!["rewrites the host to cart.example".into()],
            endpoints: vec![
                ExplainedEndpoint {
                    address: "10.0.0.2:8080".into(),
                    pod: "shop/cart-0".into(),
                    usable: true,
                    ..ExplainedEndpoint::default()
                },
                ExplainedEndpoint {
                    address: "10.0.0.3:8080".into(),
                    pod: "shop/cart-1".into(),
                    reason: "not ready".into(),
                    ..ExplainedEndpoint::default()
                },
            ],
        }],
    }
}
