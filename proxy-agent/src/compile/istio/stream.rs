//! `spec.tls` and `spec.tcp` of a VirtualService: connections by server name, client and weight.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::action::Here;
use super::{Numbers, action, asked, matches};
use crate::compile::attach::shared_id;
use crate::compile::faults::Fault;
use crate::compile::index::At;
use crate::compile::scope::Scope;
use crate::compile::streams::PortStream;
use crate::model::{ServerName, SourceMatch, StreamRule, WeightedDestination};
use crate::objects::istio::{StreamDestination, StreamMatch, VirtualService};

/// The rules of `tls`, then those of `tcp`: ports are TLS by name, or are not. What cannot be
/// compiled of them is left out and named.
pub(super) fn rules(
    at: &At<'_, VirtualService>,
    ports: &Numbers,
    scope: &mut Scope<'_>,
) -> Arc<[PortStream]> {
    let mut compiled = Vec::new();
    for (position, route) in at.object.spec.tls.iter().enumerate() {
        let field = format!("spec.tls[{position}]");
        let alternatives = route.matches.iter().map(|one| {
            let names = names(&one.sni_hosts)?;
            Ok((StreamMatch::from(one), Some(names)))
        });
        if route.matches.is_empty() {
            let reason = "is missing: a route of `tls` goes by `sniHosts`; it is left out";
            scope
                .problems
                .error(at.located, format!("{field}.match"), reason);
        }
        push(
            at,
            (&field, &route.route),
            alternatives.collect(),
            (&ports.tls, ports),
            scope,
            &mut compiled,
        );
    }
    for (position, route) in at.object.spec.tcp.iter().enumerate() {
        let field = format!("spec.tcp[{position}]");
        let everything = [StreamMatch::default()];
        let alternatives = match &route.matches[..] {
            [] => &everything[..],
            matches => matches,
        };
        let alternatives = alternatives.iter().map(|one| Ok((one.clone(), None)));
        push(
            at,
            (&field, &route.route),
            alternatives.collect(),
            (&ports.tcp, ports),
            scope,
            &mut compiled,
        );
    }
    compiled.into()
}

/// An alternative of a route, with its server names.
type Alternative = Result<(StreamMatch, Option<Arc<[ServerName]>>), Fault>;

/// Adds a rule for each alternative that is for the mesh, or one for each port by which its
/// destinations go.
fn push(
    at: &At<'_, VirtualService>,
    (field, routes): (&str, &[StreamDestination]),
    alternatives: Vec<Alternative>,
    (layer, ports): (&BTreeSet<u16>, &Numbers),
    scope: &mut Scope<'_>,
    compiled: &mut Vec<PortStream>,
) {
    let object = shared_id(at.located);
    let mut judged = Vec::new();
    for (position, one) in alternatives.into_iter().enumerate() {
        let field = format!("{field}.match[{position}]");
        let one = one.and_then(|(one, names)| {
            refuse_unsupported(&one)?;
            Ok((one, names))
        });
        match one {
            Ok((one, _)) if matches::are_for_gateways_alone(&one.gateways, at) => {}
            Ok((one, names)) => {
                if let Some((inner, reason)) = matches::no_port(one.port, &ports.all) {
                    let reason = format!("{reason}; no connection matches");
                    let place = format!("{field}.{inner}");
                    scope.problems.warning(at.located, place, reason);
                }
                judged.push((one, names));
            }
            Err((inner, reason)) => {
                let reason = format!("{reason}; the match is left out");
                let field = format!("{field}.{inner}");
                scope.problems.error(at.located, field, reason);
            }
        }
    }
    let named = routes.iter().map(|one| &one.destination);
    let asked = if action::goes_by_port(at, named, scope) {
        let matched = judged.iter().map(|(one, _)| one.port);
        asked(layer, ports, matched)
    } else {
        vec![None]
    };
    for asked in asked {
        let known = scope.problems.0.len();
        let destinations = destinations(Here { at, field, asked }, routes, scope);
        scope.problems.drop_repeated(known);
        for (one, names) in &judged {
            if one
                .port
                .is_some_and(|port| asked.is_some_and(|asked| asked != port))
            {
                continue;
            }
            compiled.push(PortStream {
                rule: StreamRule {
                    object: Some(Arc::clone(&object)),
                    field: field.into(),
                    names: names.clone(),
                    source: source(one),
                    destinations: Arc::clone(&destinations),
                },
                port: one.port.or(asked),
            });
        }
    }
}

fn refuse_unsupported(one: &StreamMatch) -> Result<(), Fault> {
    let subnets = !one.destination_subnets.is_empty();
    for (field, there) in [
        ("destinationSubnets", subnets),
        ("sourceSubnet", one.source_subnet.is_some()),
    ] {
        if there {
            let reason = "is not supported: connections are told apart by the Service's address, \
                          their port, their server name and their client";
            return Err((field.to_owned(), reason.to_owned()));
        }
    }
    Ok(())
}

fn source(one: &StreamMatch) -> Option<Box<SourceMatch>> {
    let source = SourceMatch {
        namespace: one.source_namespace.as_deref().map(Arc::from),
        labels: one.source_labels.clone(),
    };
    (source.namespace.is_some() || !source.labels.is_empty()).then(|| Box::new(source))
}

fn names(hosts: &[String]) -> Result<Arc<[ServerName]>, Fault> {
    if hosts.is_empty() {
        let reason = "is missing: names what the ClientHello asks for".to_owned();
        return Err(("sniHosts".to_owned(), reason));
    }
    let name = |(index, host): (usize, &String)| {
        let lower = host.trim_end_matches('.').to_ascii_lowercase();
        let fault = || {
            let reason = format!("found `{host}`, accepted: a name, *. and a suffix, or *");
            (format!("sniHosts[{index}]"), reason)
        };
        match lower.strip_prefix('*') {
            Some("") => Ok(ServerName::Any),
            Some(suffix) if suffix.starts_with('.') && !suffix.contains('*') => {
                Ok(ServerName::Below(suffix.into()))
            }
            None if !lower.is_empty() && !lower.contains('*') => {
                Ok(ServerName::Exact(lower.into()))
            }
            Some(_) | None => Err(fault()),
        }
    };
    hosts.iter().enumerate().map(name).collect()
}

fn destinations(
    here: Here<'_, '_>,
    routes: &[StreamDestination],
    scope: &mut Scope<'_>,
) -> Arc<[WeightedDestination]> {
    let Here { at, field, .. } = here;
    let alone = routes.len() == 1;
    let mut destinations = Vec::new();
    for (index, from) in routes.iter().enumerate() {
        let place = format!("{field}.route[{index}]");
        let weight = action::weight(from.weight, alone).unwrap_or_else(|reason| {
            let reason = format!("{reason}; 0 is taken");
            let place = format!("{place}.weight");
            scope.problems.error(at.located, place, reason);
            u32::from(alone)
        });
        let resolved = action::resolve(here, &from.destination, scope);
        let place = format!("{place}.destination");
        let loss = "its share of connections is reset";
        let destination = action::led(resolved, loss, &place, at, scope);
        destinations.push(WeightedDestination::plain(weight, destination));
    }
    if destinations.iter().all(|one| one.weight == 0) {
        let reason = "no destination with a weight; every connection is reset";
        let field = format!("{field}.route");
        scope.problems.error(at.located, field, reason);
    }
    destinations.into()
}
