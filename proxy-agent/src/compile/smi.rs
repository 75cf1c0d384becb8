//! The Service Mesh Interface's TrafficSplit: shares of a Service's requests by weight, of all of
//! them or of those that an HTTPRouteGroup describes.

use std::sync::Arc;

use http::Method;

use super::attach::{
    Attachment, Dialect, INVALID_ROUTE, NO_DESTINATION, Named, PortRule, Profile, forward_to,
    respond, shared_id,
};
use super::by_key::Key;
use super::defaults::Says;
use super::index::At;
use super::routes::Compiled;
use super::scope::Scope;
use super::service::Port;
use super::text::{header_name, prefix_regex, regex_match};
use super::{istio, switches};
use crate::model::{
    Action, Destination, Expression, HeaderMatch, Match, MethodMatch, PathMatch, Rule, Timeouts,
    WeightedDestination,
};
use crate::objects::smi::{Backend, HttpMatch, HttpRouteGroup, TrafficSplit};

/// Versions whose weights are quantities.
const OF_QUANTITIES: &str = "split.smi-spec.io/v1alpha1";
/// Versions that know no matches.
const WITHOUT_MATCHES: [&str; 2] = [OF_QUANTITIES, "split.smi-spec.io/v1alpha2"];

/// Compiles a TrafficSplit.
pub(super) fn compile(at: &At<'_, TrafficSplit>, scope: &mut Scope<'_>) -> Compiled {
    let mut compiled = Compiled::default();
    switches::name_what_is_without_effect(at.located, &mut scope.problems);
    let namespace = &at.located.id.namespace;
    let root = &at.object.spec.service;
    let found = istio::parse_host(root, namespace).filter(|(of, _)| *of == &**namespace);
    let Some((service, ports)) = found.and_then(|key| scope.service(key)) else {
        let reason = format!("found `{root}`, which is no Service of namespace `{namespace}`");
        scope.problems.error(at.located, "spec.service", reason);
        return compiled;
    };
    let conditions = conditions(at, scope);
    let mut rules = Vec::new();
    for port in ports.iter().filter(|port| port.tcp) {
        let action = action(at, port, scope);
        rules.extend(
            conditions
                .iter()
                .map(|one| rule(at, port, one.clone(), &action)),
        );
        if !at.object.spec.matches.is_empty() {
            let rest = Arc::new(forward_to(port.id));
            rules.push(rule(at, port, Match::default(), &rest));
        }
    }
    compiled.attachments.push(Attachment {
        located: Arc::clone(at.located),
        dialect: Dialect::TrafficSplit,
        service,
        port: None,
        clients: None,
        exactness: usize::MAX,
        rules: rules.into(),
        profile: Profile::default(),
    });
    compiled
}

fn rule(
    at: &At<'_, TrafficSplit>,
    port: &Port,
    conditions: Match,
    action: &Arc<Action>,
) -> PortRule {
    PortRule {
        rule: Rule {
            object: Some(shared_id(at.located)),
            field: "spec".into(),
            conditions,
            action: Arc::clone(action),
            timeouts: Timeouts::default(),
            policies: None,
        },
        port: Some(port.number),
        named: Named::default(),
        says: Says::default(),
    }
}

/// What is done with the requests to a port that are split.
fn action(at: &At<'_, TrafficSplit>, port: &Port, scope: &mut Scope<'_>) -> Arc<Action> {
    let mut destinations = Vec::new();
    for (index, backend) in at.object.spec.backends.iter().enumerate() {
        let field = format!("spec.backends[{index}]");
        match weight(at, backend) {
            Ok(weight) => {
                if let Some(to) = destination(at, &field, backend, weight, port, scope) {
                    destinations.push(WeightedDestination::plain(weight, to));
                }
            }
            Err(reason) => {
                let reason = format!("{reason}; what is split is answered 500");
                scope
                    .problems
                    .once(at.located, format!("{field}.weight"), reason);
                return Arc::new(respond(INVALID_ROUTE));
            }
        }
    }
    if destinations.iter().all(|one| one.weight == 0) {
        let reason = "no destination with a weight; what is split is answered 500".to_owned();
        scope
            .problems
            .once(at.located, "spec.backends".to_owned(), reason);
        return Arc::new(respond(NO_DESTINATION));
    }
    Arc::new(Action::Forward {
        filters: Default::default(),
        destinations,
    })
}

/// A weight in thousandths, so that those of all versions are of one unit.
fn weight(at: &At<'_, TrafficSplit>, backend: &Backend) -> Result<u32, String> {
    let Some(quantity) = backend.weight else {
        return Ok(0);
    };
    if at.object.api_version != OF_QUANTITIES && quantity.whole().is_none() {
        return Err("found a fraction, expected a whole number".to_owned());
    }
    Ok(quantity.thousandths())
}

/// Where a share goes; `None` for one that has no part in it, which is named.
fn destination(
    at: &At<'_, TrafficSplit>,
    field: &str,
    backend: &Backend,
    weight: u32,
    port: &Port,
    scope: &mut Scope<'_>,
) -> Option<Destination> {
    let namespace = &at.located.id.namespace;
    let field = format!("{field}.service");
    let key = istio::parse_host(&backend.service, namespace);
    let Some(key) = key.filter(|key| scope.service(*key).is_some()) else {
        // A Service may come after the split that names it, as long as it has no share.
        if weight > 0 {
            let reason = format!(
                "found `{}`, which is no Service that is known; its share of requests is answered 500",
                backend.service
            );
            scope.problems.once(at.located, field, reason);
            return Some(Destination::Invalid);
        }
        return None;
    };
    match scope.tcp_port(key, port.number) {
        Some(found) => Some(Destination::Cluster(found.id)),
        None => {
            let missing = scope.no_such_port(key, port.number.into());
            let reason = format!("{missing}; it has no part in what goes to that port");
            scope.problems.warning(at.located, field, reason);
            None
        }
    }
}

/// The conditions on requests that are split: alternatives.
fn conditions(at: &At<'_, TrafficSplit>, scope: &mut Scope<'_>) -> Vec<Match> {
    let references = &at.object.spec.matches;
    if references.is_empty() {
        return vec![Match::default()];
    }
    if WITHOUT_MATCHES.contains(&&*at.object.api_version) {
        let reason = "is of v1alpha3 and later; nothing is split";
        scope.problems.error(at.located, "spec.matches", reason);
        return Vec::new();
    }
    let mut alternatives = Vec::new();
    for (index, reference) in references.iter().enumerate() {
        let field = format!("spec.matches[{index}]");
        let group = reference.api_group.as_deref().unwrap_or(GROUP);
        if reference.kind != "HTTPRouteGroup" || group != GROUP {
            let reason = format!(
                "found `{}` of group `{group}`, accepted: HTTPRouteGroup of {GROUP}",
                reference.kind
            );
            let field = format!("{field}.kind");
            scope.problems.error(at.located, field, reason);
            continue;
        }
        let key: Key<'_> = (&at.located.id.namespace, &reference.name);
        match scope.route_group(key) {
            Some(group) => alternatives.extend(all_of(&group).flat_map(|(_, one)| one).flatten()),
            None => {
                let reason = format!("no HTTPRouteGroup {}/{}", key.0, key.1);
                let field = format!("{field}.name");
                scope.problems.error(at.located, field, reason);
            }
        }
    }
    alternatives
}

const GROUP: &str = "specs.smi-spec.io";

/// A field below a match and what is wrong with it.
type Fault = (String, String);

/// Every match of a group with its field: alternatives, or what is wrong with it.
fn all_of<'g>(
    at: &'g At<'_, HttpRouteGroup>,
) -> impl Iterator<Item = (String, Result<Vec<Match>, Fault>)> + 'g {
    let of_spec = at.object.spec.matches.iter().enumerate();
    let of_spec = of_spec.map(|(index, one)| (format!("spec.matches[{index}]"), one));
    let older = at.object.matches.iter().enumerate();
    let older = older.map(|(index, one)| (format!("matches[{index}]"), one));
    of_spec
        .chain(older)
        .map(|(field, one)| (field, alternatives(one)))
}

fn alternatives(of: &HttpMatch) -> Result<Vec<Match>, Fault> {
    let path = of.path_regex.as_deref().map(prefix_regex).transpose();
    let path = path.map_err(|reason| ("pathRegex".to_owned(), reason))?;
    let mut headers = Vec::new();
    for (name, expression) in of.headers.iter() {
        let fault = |reason| (format!("headers[{name}]"), reason);
        headers.push(HeaderMatch {
            name: header_name(name).map_err(fault)?,
            value: regex_match(expression).map_err(fault)?,
        });
    }
    let of_any_method = Match {
        path: path.map(PathMatch::Regex),
        headers,
        ..Match::default()
    };
    if of.methods.is_empty() || of.methods.iter().any(|method| method == "*") {
        return Ok(vec![of_any_method]);
    }
    let with_method = |(index, name): (usize, &String)| {
        let method = Method::from_bytes(name.as_bytes());
        let method = method.map_err(|error| {
            (
                format!("methods[{index}]"),
                format!("found `{name}`: {error}"),
            )
        })?;
        Ok(Match {
            method: Some(MethodMatch::Exact(method)),
            ..of_any_method.clone()
        })
    };
    of.methods.iter().enumerate().map(with_method).collect()
}

/// Names what is wrong with an HTTPRouteGroup.
pub(super) fn judge(at: &At<'_, HttpRouteGroup>, problems: &mut super::problems::Problems) {
    switches::name_what_is_without_effect(at.located, problems);
    for (field, one) in all_of(at) {
        if let Err((below, reason)) = one {
            let reason = format!("{reason}; the match is left out");
            problems.error(at.located, format!("{field}.{below}"), reason);
        }
    }
}

/// The rules that a rule of a ServiceProfile and the parts of a split come to: what both match is
/// split, and otherwise as the profile says.
pub(super) fn joined(profile: &PortRule, parts: &[&PortRule]) -> Vec<PortRule> {
    let join = |part: &&PortRule| {
        let mut one = profile.clone();
        if !matches!(*one.rule.action, Action::Respond { .. }) {
            one.rule.action = Arc::clone(&part.rule.action);
        }
        let also = part.rule.conditions.clone();
        if also.path.is_some() || also.method.is_some() || !also.headers.is_empty() {
            let mut all = vec![Expression::Match(also)];
            all.extend(one.rule.conditions.expression.take().map(|own| *own));
            one.rule.conditions.expression = Some(Box::new(Expression::All(all)));
        }
        one
    };
    parts.iter().map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_alternatives_and_headers_hold_together() {
        let of = HttpMatch {
            name: "x".to_owned(),
            methods: vec!["GET".to_owned(), "HEAD".to_owned()],
            path_regex: Some("/api".to_owned()),
            ..HttpMatch::default()
        };
        let all = alternatives(&of).expect("alternatives");
        let holds = |method: Method| {
            let of = |one: &Match| one.method.as_ref().map(|of| of.holds(&method));
            all.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(holds(Method::GET), [Some(true), Some(false)]);
        assert_eq!(holds(Method::HEAD), [Some(false), Some(true)]);
        let any = HttpMatch {
            methods: vec!["*".to_owned(), "GET".to_owned()],
            ..of
        };
        assert_eq!(alternatives(&any).expect("one").len(), 1);
    }
}
