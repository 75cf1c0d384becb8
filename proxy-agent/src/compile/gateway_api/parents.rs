//! `spec.parentRefs`: the Services that a route is for.

use std::sync::Arc;

use gateway_api::apis::experimental::httproutes::{HttpRoute, HttpRouteParentRefs};

use super::findings::Findings;
use crate::compile::attach::{Attachment, Dialect, Profile};
use crate::compile::by_key::Name;
use crate::compile::index::At;
use crate::compile::scope::Scope;
use crate::model::RouteParent;

/// Rules for each Service among the parents, and what became of the route at every parent.
pub(super) fn attach_to_parents<R>(
    at: &At<'_, HttpRoute>,
    dialect: Dialect,
    parents: Vec<Parent<'_>>,
    mut rules: impl FnMut(&To) -> Arc<[R]>,
    findings: &Findings,
) -> (Vec<Attachment<R>>, Vec<Arc<RouteParent>>) {
    let (mut attachments, mut results) = (Vec::new(), Vec::new());
    let mut taken = Vec::new();
    for (parent, attached) in parents {
        let refused = match attached {
            Ok(to) => {
                if !taken.contains(&to) {
                    taken.push(to.clone());
                    let rules = rules(&to);
                    attachments.push(attachment(at, dialect, to, rules));
                }
                None
            }
            Err(reason) => Some(reason),
        };
        let parent = findings.at_parent(at, parent, refused);
        results.push(Arc::new(parent));
    }
    (attachments, results)
}

fn attachment<R>(
    at: &At<'_, HttpRoute>,
    dialect: Dialect,
    to: To,
    rules: Arc<[R]>,
) -> Attachment<R> {
    let (service, port) = to;
    let own = &at.located.id.namespace;
    let consumer = service.namespace != *own;
    Attachment {
        located: Arc::clone(at.located),
        dialect,
        service,
        port,
        clients: consumer.then(|| Arc::clone(own)),
        exactness: usize::MAX,
        rules,
        profile: Profile::default(),
    }
}

/// A Service, and its port where one is named.
pub(super) type To = (Name, Option<u16>);

/// A parent, and what the route attaches to there, or why it does not.
pub(super) type Parent<'a> = (&'a HttpRouteParentRefs, Result<To, String>);

/// The parents of a route that are Services, each once.
pub(super) fn parents<'a>(at: &At<'a, HttpRoute>, scope: &mut Scope<'_>) -> Vec<Parent<'a>> {
    let mut parents: Vec<Parent<'a>> = Vec::new();
    for (index, parent) in at.object.spec.parent_refs.iter().flatten().enumerate() {
        if !is_service(parent) || parents.iter().any(|(known, _)| *known == parent) {
            continue;
        }
        let attached = attach(at, parent, scope).map_err(|(field, reason)| {
            let field = format!("spec.parentRefs[{index}].{field}");
            let message = format!("{field}: {reason}");
            scope.problems.error(at.located, field, reason);
            message
        });
        parents.push((parent, attached));
    }
    parents
}

/// Whether a parent is a Service. Linkerd's documents call the core group by its name, too.
pub(super) fn is_service(parent: &HttpRouteParentRefs) -> bool {
    let core = matches!(parent.group.as_deref(), Some("" | "core"));
    core && parent.kind.as_deref() == Some("Service")
}

fn attach(
    at: &At<'_, HttpRoute>,
    parent: &HttpRouteParentRefs,
    scope: &Scope<'_>,
) -> Result<To, (&'static str, String)> {
    let namespace = parent
        .namespace
        .as_deref()
        .unwrap_or(&at.located.id.namespace);
    let key = (namespace, parent.name.as_str());
    let Some((service, ports)) = scope.service(key) else {
        return Err(("name", format!("no Service {namespace}/{}", parent.name)));
    };
    let numbered = parent.port.map(|number| {
        let port = u16::try_from(number)
            .ok()
            .and_then(|port| scope.tcp_port(key, port));
        port.ok_or_else(|| ("port", scope.no_such_port(key, number.into())))
    });
    // ParentReference of the v1 reference: a section of a Service is a port, by name.
    let named = parent.section_name.as_deref().map(|name| {
        let port = ports.iter().find(|port| &*port.name == name && port.tcp);
        port.ok_or_else(|| {
            let reason = format!(
                "Service {namespace}/{} has no TCP port `{name}`",
                parent.name
            );
            ("sectionName", reason)
        })
    });
    match (numbered.transpose()?, named.transpose()?) {
        (Some(one), Some(other)) if one.number != other.number => {
            let reason = format!("found `{}`, which is port {}", other.name, other.number);
            Err(("sectionName", reason))
        }
        (one, other) => Ok((service, one.or(other).map(|port| port.number))),
    }
}
