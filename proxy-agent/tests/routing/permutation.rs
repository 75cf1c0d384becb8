//! The order in which objects are read is of no account.

use std::sync::Arc;

use proptest::prelude::*;
use proxy_agent::compile::{Compiler, Options};
use proxy_agent::model::Snapshot;
use proxy_agent::objects::{Located, ObjectSet};

use crate::answer::{Asked, Facts};
use crate::scene::{Scene, set};

/// What becomes of the requests of every case of a scene.
fn decisions(scene: &Scene, snapshot: &Snapshot) -> Vec<Facts> {
    let cases = scene.cases();
    cases
        .map(|(_, case, _)| Asked::new(snapshot, case, &scene.sheet.from).facts())
        .collect()
}

fn source(objects: &[Arc<Located>]) -> Arc<ObjectSet> {
    let mut source = ObjectSet::clone(&set("", "permuted"));
    source.objects = objects.iter().cloned().collect();
    Arc::new(source)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn objects_in_another_order_make_the_same_decisions(seeds in any::<u64>()) {
        for scene in Scene::all("scenes") {
            let read = set(&scene.manifests, &scene.file);
            let mut objects: Vec<_> = read.objects.iter().cloned().collect();
            shuffle(&mut objects, seeds);
            let first = decisions(&scene, &scene.snapshot);
            let whole = Compiler::default().compile(&[source(&objects)], &Options::default());
            prop_assert_eq!(&decisions(&scene, &whole), &first, "{} at once", scene.file);
            let mut compiler = Compiler::default();
            let mut last = Snapshot::empty();
            for count in (0..=objects.len()).step_by(3).chain([objects.len()]) {
                last = compiler.compile(&[source(&objects[..count])], &Options::default());
            }
            prop_assert_eq!(&decisions(&scene, &last), &first, "{} one by one", scene.file);
        }
    }
}

/// Fisher and Yates's shuffle, by a linear congruence (Knuth's MMIX).
fn shuffle(objects: &mut [Arc<Located>], mut seed: u64) {
    for last in (1..objects.len()).rev() {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let index = usize::try_from((seed >> 33) % (last as u64 + 1)).expect("an index");
        objects.swap(last, index);
    }
}
