//! Any request on tables of every dialect: the one of the routing suite's scenes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use proxy_agent::model::Snapshot;
use proxy_agent::objects::Format;
use proxy_fuzz::{compile, request, serve};

/// Scenes of the suite, each with tables of its own.
static SNAPSHOTS: LazyLock<Vec<Snapshot>> = LazyLock::new(|| {
    let scenes = [
        include_str!("../../tests/routing/scenes/gateway_conditions.yaml"),
        include_str!("../../tests/routing/scenes/gateway_policies.yaml"),
        include_str!("../../tests/routing/scenes/gateway_precedence.yaml"),
        include_str!("../../tests/routing/scenes/gateway_redirects.yaml"),
        include_str!("../../tests/routing/scenes/gateway_rewrites.yaml"),
        include_str!("../../tests/routing/scenes/grpc.yaml"),
        include_str!("../../tests/routing/scenes/istio_actions.yaml"),
        include_str!("../../tests/routing/scenes/istio_delegates.yaml"),
        include_str!("../../tests/routing/scenes/istio_matches.yaml"),
        include_str!("../../tests/routing/scenes/istio_policies.yaml"),
        include_str!("../../tests/routing/scenes/source_document.yaml"),
    ];
    let scenes = scenes.iter();
    scenes.map(|text| compile(text, Format::Yaml)).collect()
});

fuzz_target!(|data: &[u8]| {
    let Some(request) = request(data) else {
        return;
    };
    for snapshot in SNAPSHOTS.iter() {
        for listener in snapshot.listeners.iter() {
            serve(snapshot, listener, &request);
        }
    }
});
