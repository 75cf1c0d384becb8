//! Labels and annotations of our own prefix, and of Linkerd's, that have no effect where they stand.
//!
//! The values of those that have one are judged where they are read.

use std::collections::BTreeMap;

use super::annotations;
use super::problems::Problems;
use crate::objects::Located;

const PREFIX: &str = "proxy-agent.io/";

/// Kind, field and name of each that is read.
const IN_EFFECT: [(&str, &str, &str); 9] = [
    ("Namespace", "labels", "capture"),
    ("Namespace", "annotations", "on-failure"),
    ("Namespace", "annotations", "acceleration"),
    ("Pod", "annotations", "capture"),
    ("Pod", "annotations", "on-failure"),
    ("Pod", "annotations", "acceleration"),
    ("Service", "annotations", "balance"),
    ("Service", "annotations", "mode"),
    ("Service", "annotations", "stale-connections"),
];

/// Names every label and annotation of an object with our prefix that changes nothing.
pub(super) fn name_what_is_without_effect(located: &Located, problems: &mut Problems) {
    let Some(metadata) = located.object.metadata() else {
        return;
    };
    check(located, "labels", metadata.labels.as_ref(), problems);
    let annotations = metadata.annotations.as_ref();
    check(located, "annotations", annotations, problems);
    annotations::name_what_is_without_effect(located, problems);
}

fn check(
    located: &Located,
    field: &str,
    texts: Option<&BTreeMap<String, String>>,
    problems: &mut Problems,
) {
    let kind = &*located.id.kind;
    let names = texts.into_iter().flat_map(BTreeMap::keys);
    for name in names.filter_map(|key| key.strip_prefix(PREFIX)) {
        if IN_EFFECT.contains(&(kind, field, name)) {
            continue;
        }
        let reason = format!("has no effect on a {kind}; accepted: {}", accepted(kind));
        problems.warning(located, format!("metadata.{field}[{PREFIX}{name}]"), reason);
    }
}

fn accepted(kind: &str) -> String {
    let here = IN_EFFECT.iter().filter(|(of, ..)| *of == kind);
    let words = here.map(|(_, field, name)| format!("{PREFIX}{name} in {field}"));
    words.collect::<Vec<_>>().join(", ")
}
