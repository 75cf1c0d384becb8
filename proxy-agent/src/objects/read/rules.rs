//! Objects that are read rule by rule because they cannot be read whole.
//!
//! A rule that holds a value or a field that cannot be read is emptied, but for its conditions, and
//! marked: whoever compiles the object has the rule fail for what it matches. The rest is as it
//! would be without it.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::further;
use crate::objects::accepted::{Step, render};

const GATEWAY: &str = "gateway.networking.k8s.io";
const ISTIO: &str = "networking.istio.io";
const ANSWERS: &str = "the rule answers 500";
const RESETS: &str = "the rule's connections are reset";

/// Lists of rules: group, kind, list, the conditions of its rules, what becomes of a marked one.
const LISTS: [(&str, &str, &str, &str, &str); 9] = [
    (GATEWAY, "HTTPRoute", "rules", "matches", ANSWERS),
    (GATEWAY, "GRPCRoute", "rules", "matches", ANSWERS),
    (GATEWAY, "TLSRoute", "rules", "", RESETS),
    (GATEWAY, "TCPRoute", "rules", "", RESETS),
    (ISTIO, "VirtualService", "http", "match", ANSWERS),
    (ISTIO, "VirtualService", "tls", "match", RESETS),
    (ISTIO, "VirtualService", "tcp", "match", RESETS),
    (
        "policy.linkerd.io",
        "HTTPRoute",
        "rules",
        "matches",
        ANSWERS,
    ),
    (
        "linkerd.io",
        "ServiceProfile",
        "routes",
        "condition",
        ANSWERS,
    ),
];

/// Times that an object is read at most: one with more rules that cannot be read is not in effect.
const MAX_ROUNDS: usize = 64;

/// A value that cannot be read, and why.
type Fault = (Vec<Step>, String);

/// What could be read of an object.
pub(super) struct Rest<T> {
    /// `None` if something beside its rules cannot be read.
    pub object: Option<T>,
    /// Field paths of the rules that could not, as in `spec.rules[1]`.
    pub unread: Vec<String>,
    /// What was found on the way.
    pub faults: Vec<Fault>,
}

/// A rule, and how much of it is at fault.
struct Place {
    list: &'static str,
    conditions: &'static str,
    consequence: &'static str,
    index: usize,
    in_conditions: bool,
}

/// What becomes of the rule that holds the value at `path`; `None` if no rule does.
pub(super) fn consequence(of: (&str, &str), path: &[Step]) -> Option<&'static str> {
    place(of, path).map(|rule| rule.consequence)
}

/// Reads an object of this group and kind without the rules that cannot be read.
pub(super) fn read<T: DeserializeOwned>(of: (&str, &str), from: &Value) -> Rest<T> {
    let mut value = from.clone();
    let mut emptied = Emptied::default();
    let mut faults = Vec::new();
    let mut rounds = 0..MAX_ROUNDS;
    let object = loop {
        // Each round takes something of at least one rule.
        if rounds.next().is_none() {
            break None;
        }
        let (read, mut found) = further::whole::<T>(&value);
        let read = read.map_err(|fault| found.push(fault)).ok();
        if found.is_empty() {
            break read;
        }
        let rules = found.iter().map(|(path, _)| place(of, path));
        let rules = rules.collect::<Option<Vec<_>>>();
        faults.extend(found);
        let left = rules.and_then(|rules| emptied.empty(&mut value, &rules));
        if left.is_none() {
            break None;
        }
    };
    Rest {
        object,
        unread: emptied.0.into_iter().map(|(field, _)| field).collect(),
        faults,
    }
}

/// Field paths of the rules that were emptied, and whether their conditions were taken, too.
#[derive(Debug, Default)]
struct Emptied(Vec<(String, bool)>);

impl Emptied {
    /// Empties these rules: of what is at fault again, the conditions go, too. `None` if there is
    /// nothing left to take.
    fn empty(&mut self, value: &mut Value, rules: &[Place]) -> Option<()> {
        let known: Vec<_> = self.0.clone();
        for rule in rules {
            let field = field(rule);
            let before = known.iter().find(|(known, _)| *known == field);
            let bare = match before {
                None => rule.in_conditions,
                Some((_, false)) => true,
                Some((_, true)) => return None,
            };
            match self.0.iter_mut().find(|(known, _)| *known == field) {
                Some((_, known)) => *known |= bare,
                None => self.0.push((field.clone(), bare)),
            }
            let bare = self.0.iter().any(|(known, bare)| *known == field && *bare);
            let list = value.get_mut("spec")?.get_mut(rule.list)?;
            let whole = list.get_mut(rule.index)?;
            *whole = left_of(whole, rule, bare);
        }
        Some(())
    }
}

/// What is left of a rule: it matches what it matched, or everything if it is to be bare.
fn left_of(whole: &Value, rule: &Place, bare: bool) -> Value {
    let mut left = json!({});
    if matches!(rule.list, "http" | "rules" | "routes") {
        let name = whole.get("name").filter(|name| name.is_string());
        left["name"] = name.cloned().unwrap_or_default();
    }
    match rule.list {
        "routes" if left["name"].is_null() => left["name"] = json!(""),
        "rules" if rule.conditions.is_empty() => left = json!({ "backendRefs": [] }),
        _ => {}
    }
    let kept = whole.get(rule.conditions).filter(|_| !bare);
    if let Some(conditions) = kept.cloned().or_else(|| everything(rule)) {
        left[rule.conditions] = conditions;
    }
    left
}

/// The conditions that match everything, where it is not their lack that does.
fn everything(rule: &Place) -> Option<Value> {
    match rule.list {
        "tls" => Some(json!([{ "sniHosts": ["*"] }])),
        "routes" => Some(json!({})),
        _ => None,
    }
}

fn field(rule: &Place) -> String {
    render(&[
        Step::Key("spec".to_owned()),
        Step::Key(rule.list.to_owned()),
        Step::Index(rule.index),
    ])
}

fn place((group, kind): (&str, &str), path: &[Step]) -> Option<Place> {
    let [
        Step::Key(spec),
        Step::Key(list),
        Step::Index(index),
        below @ ..,
    ] = path
    else {
        return None;
    };
    let mut lists = LISTS.iter().filter(|_| spec == "spec");
    let (_, _, list, conditions, consequence) =
        lists.find(|one| (one.0, one.1, one.2) == (group, kind, list.as_str()))?;
    Some(Place {
        list,
        conditions,
        consequence,
        index: *index,
        in_conditions: matches!(below, [Step::Key(key), ..] if key == conditions),
    })
}
