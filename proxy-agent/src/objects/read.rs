//! Values to typed objects, one problem for each that cannot be read.

mod further;
mod kinds;
mod rules;
mod words;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::kinds::{SMI, versions_read};
use self::rules::Rest;
use self::words::{in_words, steps, unknown_field};
use super::accepted::{self, Step};
use super::document::{Document, split};
use super::{Located, Object, Slice};
use crate::model::{ObjectId, Place, Problem, Severity};

/// Objects in one `List` and below at most; deeper nesting than this is no manifest.
const MAX_LIST_DEPTH: usize = 4;

/// How a text is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Documents between `---` lines.
    Yaml,
    /// One document.
    Json,
}

/// What a text yielded.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The objects in it.
    pub objects: Vec<Located>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// One for each object that stands in the text and could not be read; `None` where not even
    /// its identity could be told. Their last good versions should stay in force.
    pub rejected: Vec<Option<ObjectId>>,
    /// It has a list of nothing: what kubectl says of a kind of which there are no objects.
    pub lists_nothing: bool,
}

/// Reads every object of a text. Never fails as a whole: what is wrong is among the problems.
pub fn parse(text: &str, source: &Arc<str>, format: Format) -> Parsed {
    let mut parsed = Parsed::default();
    let whole = [Document {
        text,
        lines_before: 0,
    }];
    let documents = match format {
        Format::Yaml => split(text),
        Format::Json if whole[0].is_empty() => Vec::new(),
        Format::Json => whole.to_vec(),
    };
    for document in documents {
        let place = Place {
            source: Arc::clone(source),
            line: document.line(),
        };
        let value = match format {
            Format::Yaml => document.yaml(),
            Format::Json => document.json(),
        };
        let mut reader = Reader {
            place,
            newer: Newer::Named,
            parsed: &mut parsed,
        };
        match value {
            Ok(value) => reader.value(value, &mut Vec::new()),
            Err(reason) => reader.reject(None, String::new(), reason),
        }
    }
    parsed
}

/// Reads one object as an API server gave it. Fields of Kubernetes' own kinds that are not known
/// here are a newer server's, which has judged them; of routing kinds they are named as in files.
pub fn read_served(object: Value, place: Place) -> Parsed {
    let mut parsed = Parsed::default();
    let mut reader = Reader {
        place,
        newer: Newer::Trusted,
        parsed: &mut parsed,
    };
    reader.value(object, &mut Vec::new());
    parsed
}

/// How unknown fields of Kubernetes' own kinds are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Newer {
    /// A user may have misspelt them.
    Named,
    /// An API server knows them.
    Trusted,
}

/// How an unknown field of a kind is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unknown {
    /// Newer Kubernetes versions add fields: the object stays in effect.
    Warn,
    /// It may be a condition: a rule without it would route what it should not. The rule fails; where
    /// the field is of no rule, the object is not in effect.
    Reject,
}

struct Reader<'a> {
    place: Place,
    newer: Newer,
    parsed: &'a mut Parsed,
}

impl Reader<'_> {
    fn value(&mut self, value: Value, prefix: &mut Vec<Step>) {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
        for (name, found) in [("apiVersion", &api_version), ("kind", &kind)] {
            if found.is_empty() {
                prefix.push(Step::Key(name.to_owned()));
                let field = accepted::render(prefix);
                prefix.pop();
                let reason = format!("no {name}: every document must be a Kubernetes object");
                return self.reject(None, field, reason);
            }
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let listed = kinds::listed(group, version, &kind);
        if let Some(items) = listed.filter(|_| prefix.len() < 2 * MAX_LIST_DEPTH) {
            return self.list(value, &api_version, items, prefix);
        }
        match identity(&value, group, &kind) {
            Ok(id) => self.object(id, version, value, prefix),
            Err((name, reason)) => {
                let field = accepted::render(&[prefix.as_slice(), &[Step::Key(name)]].concat());
                self.reject(None, field, reason);
            }
        }
    }

    /// Each object of a list; those of a list of one kind need not say what they are.
    fn list(&mut self, mut list: Value, version: &str, kind: &str, prefix: &mut Vec<Step>) {
        let mut items = list.get_mut("items").map(Value::take);
        let nothing = items.as_ref().and_then(Value::as_array);
        self.parsed.lists_nothing |= nothing.is_some_and(Vec::is_empty);
        let items = items.iter_mut().flat_map(Value::as_array_mut).flatten();
        for (index, item) in items.enumerate() {
            let mut item = item.take();
            if let Some(map) = item.as_object_mut().filter(|_| !kind.is_empty()) {
                map.entry("apiVersion").or_insert_with(|| version.into());
                map.entry("kind").or_insert_with(|| kind.into());
            }
            prefix.extend([Step::Key("items".to_owned()), Step::Index(index)]);
            self.value(item, prefix);
            prefix.truncate(prefix.len() - 2);
        }
    }

    fn object(&mut self, id: ObjectId, version: &str, value: Value, prefix: &[Step]) {
        use Unknown::{Reject, Warn};
        match (&*id.group, &*id.kind, version) {
            ("", "Namespace", "v1") => self.typed(id, value, prefix, Warn, Object::Namespace),
            ("", "Node", "v1") => self.typed(id, value, prefix, Warn, Object::Node),
            ("", "Pod", "v1") => self.typed(id, value, prefix, Warn, Object::Pod),
            ("", "Service", "v1") => self.typed(id, value, prefix, Warn, Object::Service),
            ("discovery.k8s.io", "EndpointSlice", "v1") => {
                let namespace = Arc::clone(&id.namespace);
                let cut_down =
                    |slice: Box<_>| Object::EndpointSlice(Box::new(Slice::new(*slice, &namespace)));
                self.typed(id, value, prefix, Warn, cut_down);
            }
            ("gateway.networking.k8s.io", "HTTPRoute", "v1" | "v1beta1") => {
                self.typed(id, value, prefix, Reject, Object::HttpRoute);
            }
            ("gateway.networking.k8s.io", "GRPCRoute", "v1" | "v1beta1" | "v1alpha2") => {
                self.typed(id, value, prefix, Reject, Object::GrpcRoute);
            }
            ("gateway.networking.k8s.io", "TLSRoute", "v1" | "v1alpha3" | "v1alpha2") => {
                self.typed(id, value, prefix, Reject, Object::TlsRoute);
            }
            ("gateway.networking.k8s.io", "TCPRoute", "v1" | "v1alpha2") => {
                self.typed(id, value, prefix, Reject, Object::TcpRoute);
            }
            ("gateway.networking.k8s.io", "ReferenceGrant", "v1" | "v1beta1") => {
                self.typed(id, value, prefix, Reject, Object::ReferenceGrant);
            }
            ("networking.istio.io", "VirtualService", "v1" | "v1beta1" | "v1alpha3") => {
                self.typed(id, value, prefix, Reject, Object::VirtualService);
            }
            ("networking.istio.io", "DestinationRule", "v1" | "v1beta1" | "v1alpha3") => {
                self.typed(id, value, prefix, Reject, Object::DestinationRule);
            }
            ("networking.istio.io", "ServiceEntry", "v1" | "v1beta1" | "v1alpha3") => {
                self.typed(id, value, prefix, Reject, Object::ServiceEntry);
            }
            ("linkerd.io", "Service", "v1") => {
                self.typed(id, value, prefix, Reject, Object::LinkerdService);
            }
            ("linkerd.io", "Route", "v1") => {
                self.typed(id, value, prefix, Reject, Object::LinkerdRoute);
            }
            ("linkerd.io", "ServiceProfile", "v1alpha2" | "v1alpha1") => {
                self.typed(id, value, prefix, Reject, Object::ServiceProfile);
            }
            ("policy.linkerd.io", "HTTPRoute", "v1beta3" | "v1beta2" | "v1beta1") => {
                self.typed(id, value, prefix, Reject, Object::PolicyHttpRoute);
            }
            ("split.smi-spec.io", "TrafficSplit", version) if SMI.contains(&version) => {
                self.typed(id, value, prefix, Reject, Object::TrafficSplit);
            }
            ("specs.smi-spec.io", "HTTPRouteGroup", version) if SMI.contains(&version) => {
                self.typed(id, value, prefix, Reject, Object::HttpRouteGroup);
            }
            _ => self.unread(id, version, prefix),
        }
    }

    /// A kind that is not read, or not in this version.
    fn unread(&mut self, id: ObjectId, version: &str, prefix: &[Step]) {
        if let Some(versions) = versions_read(&id.group, &id.kind) {
            let reason =
                format!("found version `{version}`, which is not read; accepted: {versions}");
            let field = accepted::render(&[prefix, &[Step::Key("apiVersion".to_owned())]].concat());
            self.problem(Severity::Error, Some(&id), field, reason);
        } else if let Some(meant) = kinds::meant(&id.group, &id.kind) {
            let reason = format!("found `{}`, which is no kind; accepted: {meant}", id.kind);
            let field = accepted::render(&[prefix, &[Step::Key("kind".to_owned())]].concat());
            self.problem(Severity::Error, Some(&id), field, reason);
        }
        self.accept(id, Object::Unknown, Vec::new());
    }

    fn typed<T: DeserializeOwned>(
        &mut self,
        id: ObjectId,
        value: Value,
        prefix: &[Step],
        unknown: Unknown,
        wrap: impl FnOnce(Box<T>) -> Object,
    ) {
        let mut ignored = Vec::new();
        let read: Result<T, _> =
            serde_ignored::deserialize(&value, |path| ignored.push(steps(&path)));
        ignored.retain(|path| !words::is_of_no_matter(path));
        if (unknown, self.newer) == (Unknown::Warn, Newer::Trusted) {
            ignored.clear();
        }
        let severity = match unknown {
            Unknown::Warn => Severity::Warning,
            Unknown::Reject => Severity::Error,
        };
        let of = (&*id.group, &*id.kind);
        let faulty = unknown == Unknown::Reject && (read.is_err() || !ignored.is_empty());
        let rest = faulty.then(|| rules::read::<T>(of, &value));
        let in_part = rest.as_ref().is_some_and(|rest| rest.object.is_some());
        // Those before a value that cannot be read are named too: it may be their fault.
        let ignored = ignored.iter();
        let mut found: Vec<_> = ignored
            .map(|path| (severity, path.clone(), unknown_field::<T>(path)))
            .collect();
        let mut faults = rest
            .as_ref()
            .map(|rest| rest.faults.clone())
            .unwrap_or_default();
        if let Err(first) = &read {
            faults.extend(further::faults::<T>(value, first));
        }
        for (path, reason) in faults {
            let reason = in_words(&reason);
            if !found
                .iter()
                .any(|known| known.1 == path && known.2 == reason)
            {
                found.push((Severity::Error, path, reason));
            }
        }
        for (severity, path, mut reason) in found {
            if let Some(what) = rules::consequence(of, &path).filter(|_| in_part) {
                reason = format!("{reason}; {what}");
            }
            let field = accepted::render(&[prefix, &path].concat());
            self.problem(severity, Some(&id), field, reason);
        }
        match (read, rest) {
            (Ok(object), None) => self.accept(id, wrap(Box::new(object)), Vec::new()),
            (
                _,
                Some(Rest {
                    object: Some(object),
                    unread,
                    ..
                }),
            ) => {
                self.accept(id, wrap(Box::new(object)), unread);
            }
            _ => self.parsed.rejected.push(Some(id)),
        }
    }

    fn accept(&mut self, id: ObjectId, object: Object, unread: Vec<String>) {
        self.parsed.objects.push(Located {
            id,
            place: self.place.clone(),
            object,
            unread,
        });
    }

    fn reject(&mut self, id: Option<ObjectId>, field: String, reason: String) {
        self.problem(Severity::Error, id.as_ref(), field, reason);
        self.parsed.rejected.push(id);
    }

    fn problem(
        &mut self,
        severity: Severity,
        id: Option<&ObjectId>,
        field: String,
        reason: String,
    ) {
        self.parsed.problems.push(Problem {
            severity,
            place: Some(self.place.clone()),
            object: id.cloned(),
            field,
            reason,
        });
    }
}

/// The object's identity, or the field that it lacks and why that is wrong.
fn identity(value: &Value, group: &str, kind: &str) -> Result<ObjectId, (String, String)> {
    let metadata = |name: &str| match value
        .get("metadata")
        .and_then(|metadata| metadata.get(name))
    {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(other) => Err((
            format!("metadata.{name}"),
            format!("found {other}, expected a string"),
        )),
    };
    let name = metadata("name")?;
    let known = versions_read(group, kind).is_some();
    if known && name.is_none() {
        let reason = format!("no name: every {kind} needs one");
        return Err(("metadata.name".to_owned(), reason));
    }
    let refuse = |field: &str| {
        let field = format!("metadata.{field}");
        move |reason| (field, reason)
    };
    if let Some(name) = name.filter(|_| known) {
        super::name::object(group, kind, name).map_err(refuse("name"))?;
    }
    let namespace = match metadata("namespace")? {
        _ if matches!((group, kind), ("", "Namespace" | "Node")) => "",
        None if known => "default",
        None => "",
        Some(namespace) => {
            let judged = if known {
                super::name::namespace(namespace)
            } else {
                Ok(())
            };
            judged.map_err(refuse("namespace"))?;
            namespace
        }
    };
    Ok(ObjectId {
        group: group.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.unwrap_or_default().into(),
    })
}
