//! `status.parents` of a route: our entries beside those of others, and whether they changed.
//!
//! Pure. The list is one value to the API (`listType: atomic`), so it is always written whole.

use std::borrow::Borrow;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::{Condition, ParentRef, RouteParent};

/// Who our entries are by.
pub const CONTROLLER: &str = "proxy-agent.io/mesh";

/// The list that the route should have, or `None` if it has it: every other controller's entry as
/// it is, and ours as they should be. A condition that holds as it held before keeps its time.
pub(super) fn merged<P: Borrow<RouteParent>>(
    before: &[Value],
    ours: &[P],
    now: Timestamp,
) -> Option<Vec<Value>> {
    let mut merged: Vec<Value> = before.iter().filter(|one| !is_ours(one)).cloned().collect();
    let known: Vec<&Value> = before.iter().filter(|one| is_ours(one)).collect();
    for parent in ours.iter().map(Borrow::borrow) {
        let reference = reference(&parent.parent);
        let same = known.iter().find(|one| one["parentRef"] == reference);
        let condition = |kind: &str, condition: &Condition| {
            let before = same
                .map(|entry| &entry["conditions"])
                .and_then(Value::as_array);
            let before = before.into_iter().flatten().find(|one| one["type"] == kind);
            with_time(kind, condition, parent.generation, before, now)
        };
        merged.push(json!({
            "parentRef": reference,
            "controllerName": CONTROLLER,
            "conditions": [
                condition("Accepted", &parent.accepted),
                condition("ResolvedRefs", &parent.resolved_refs),
            ],
        }));
    }
    let unchanged = merged.len() == before.len() && before.iter().all(|one| merged.contains(one));
    (!unchanged).then_some(merged)
}

/// Whether the list has an entry of ours.
pub(super) fn has_ours(parents: &[Value]) -> bool {
    parents.iter().any(is_ours)
}

fn is_ours(entry: &Value) -> bool {
    entry["controllerName"] == CONTROLLER
}

fn with_time(
    kind: &str,
    condition: &Condition,
    generation: i64,
    before: Option<&Value>,
    now: Timestamp,
) -> Value {
    let status = if condition.status { "True" } else { "False" };
    let since = before
        .filter(|before| before["status"] == status)
        .and_then(|before| before["lastTransitionTime"].as_str());
    json!({
        "type": kind,
        "status": status,
        "reason": condition.reason.name(),
        "message": condition.message,
        "observedGeneration": generation,
        "lastTransitionTime": since.map_or_else(|| now.strftime("%FT%TZ").to_string(), str::to_owned),
    })
}

/// As the route writes it: what it leaves out is left out.
fn reference(parent: &ParentRef) -> Value {
    let texts = [
        ("group", &parent.group),
        ("kind", &parent.kind),
        ("namespace", &parent.namespace),
        ("sectionName", &parent.section_name),
    ];
    let mut fields = Map::new();
    for (name, value) in texts {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value.as_str().into());
        }
    }
    fields.insert("name".to_owned(), parent.name.as_str().into());
    if let Some(port) = parent.port {
        fields.insert("port".to_owned(), port.into());
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConditionReason, ObjectId};

    fn parent(name: &str, accepted: Condition) -> RouteParent {
        RouteParent {
            route: ObjectId {
                group: "gateway.networking.k8s.io".into(),
                kind: "HTTPRoute".into(),
                namespace: "ns".into(),
                name: "r".into(),
            },
            uid: "u".into(),
            generation: 3,
            parent: ParentRef {
                group: Some(String::new()),
                kind: Some("Service".to_owned()),
                namespace: None,
                name: name.to_owned(),
                section_name: None,
                port: Some(80),
            },
            accepted,
            resolved_refs: Condition::holds(ConditionReason::ResolvedRefs),
        }
    }

    fn good(name: &str) -> RouteParent {
        parent(name, Condition::holds(ConditionReason::Accepted))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn other() -> Value {
        json!({"controllerName": "example.org/gateway", "parentRef": {"name": "g"}, "conditions": []})
    }

    #[test]
    fn an_entry_says_what_the_api_asks_for() {
        let merged = merged(&[], &[good("web")], at(0)).unwrap();
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": kind, "message": "",
                "observedGeneration": 3, "lastTransitionTime": "1970-01-01T00:00:00Z"})
        };
        let wanted = json!([{
            "parentRef": {"group": "", "kind": "Service", "name": "web", "port": 80},
            "controllerName": "proxy-agent.io/mesh",
            "conditions": [condition("Accepted"), condition("ResolvedRefs")],
        }]);
        assert_eq!(Value::from(merged), wanted);
    }

    #[test]
    fn what_is_as_it_should_be_is_not_written() {
        let first = merged(&[other()], &[good("web")], at(0)).unwrap();
        assert_eq!(merged(&first, &[good("web")], at(60)), None);
        let mut newer = good("web");
        newer.generation = 4;
        assert!(merged(&first, &[newer], at(60)).is_some());
    }

    #[test]
    fn entries_of_others_are_never_touched() {
        let first = merged(&[other()], &[good("web")], at(0)).unwrap();
        assert_eq!(first[0], other());
        let gone = merged::<RouteParent>(&first, &[], at(60)).unwrap();
        assert_eq!(
            gone,
            [other()],
            "ours go when the route no longer names a Service"
        );
        assert!(has_ours(&first) && !has_ours(&gone));
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let first = merged(&[], &[good("web")], at(0)).unwrap();
        let reason = ConditionReason::NoMatchingParent;
        let bad = parent(
            "web",
            Condition::fails(reason, "no such Service".to_owned()),
        );
        let second = merged(&first, &[bad], at(60)).unwrap();
        let conditions = &second[0]["conditions"];
        assert_eq!(conditions[0]["lastTransitionTime"], "1970-01-01T00:01:00Z");
        assert_eq!(conditions[0]["reason"], "NoMatchingParent");
        assert_eq!(conditions[1]["lastTransitionTime"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn each_parent_has_an_entry_of_its_own() {
        let both = merged(&[], &[good("a"), good("b")], at(0)).unwrap();
        assert_eq!(both.len(), 2);
        let one = merged(&both, &[good("b")], at(1)).unwrap();
        assert_eq!(one.len(), 1);
        assert_eq!(one[0]["parentRef"]["name"], "b");
    }
}
