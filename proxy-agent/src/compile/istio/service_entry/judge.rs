//! What is wrong with a ServiceEntry, and what of it makes no difference.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Source, address, declared, is_name, normal, number, source, target};
use crate::compile::index::At;
use crate::compile::problems::Problems;
use crate::model::ObjectId;
use crate::objects::istio::{ServiceEntry, ServiceEntrySpec};

/// Why a part of an entry has no effect.
const NOT_ENFORCED: &str = "accepted, not enforced by this version";

/// Names what is wrong with an entry. `owner` tells who has a host of the same namespace already.
pub(in crate::compile) fn judge(
    at: &At<'_, ServiceEntry>,
    owner: impl Fn(&str) -> Option<ObjectId>,
    problems: &mut Problems,
) {
    let spec = &at.object.spec;
    let mut error = |field: String, reason: String| problems.error(at.located, field, reason);
    let source = match source(spec) {
        Ok(source) => source,
        Err(reason) => {
            let reason = format!("{reason}; the entry is not in effect");
            return error("spec.resolution".to_owned(), reason);
        }
    };
    hosts(spec, owner, &mut error);
    for (index, text) in spec.addresses.iter().enumerate() {
        if let Err(reason) = address(text) {
            error(format!("spec.addresses[{index}]"), reason);
        }
    }
    ports(spec, &mut error);
    endpoints(spec, source, &mut error);
    if let Some(other) = spec.location.as_deref()
        && !matches!(other, "MESH_EXTERNAL" | "MESH_INTERNAL")
    {
        let reason = format!("found `{other}`, accepted: MESH_EXTERNAL, MESH_INTERNAL");
        error("spec.location".to_owned(), reason);
    }
    warn(at, source, problems);
}

fn hosts(
    spec: &ServiceEntrySpec,
    owner: impl Fn(&str) -> Option<ObjectId>,
    error: &mut impl FnMut(String, String),
) {
    if spec.hosts.is_empty() {
        let reason = "is missing: names the service".to_owned();
        error("spec.hosts".to_owned(), reason);
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        let name = normal(host);
        let wild = name.strip_prefix("*.");
        let reason = if !is_name(wild.unwrap_or(&name)) {
            format!("found `{host}`, expected a host name")
        } else if wild.is_some() && spec.addresses.is_empty() {
            format!(
                "found `{host}`, whose connections cannot be told from others without `addresses`"
            )
        } else if let Some(owner) = owner(&name) {
            format!("`{host}` is {owner}'s already, which keeps it")
        } else {
            continue;
        };
        error(format!("spec.hosts[{index}]"), reason);
    }
}

fn ports(spec: &ServiceEntrySpec, error: &mut impl FnMut(String, String)) {
    if spec.ports.is_empty() {
        let reason = "is missing: without a port nothing is routed".to_owned();
        error("spec.ports".to_owned(), reason);
    }
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in spec.ports.iter().enumerate() {
        let faults = [
            ("number", number(port.number).map(drop)),
            ("targetPort", target(port).map(drop)),
            ("protocol", declared(port).map(drop)),
        ];
        let faults = faults.into_iter();
        let fault = faults.filter_map(|(field, outcome)| Some((field, outcome.err()?)));
        let twice = |field: &'static str, first: bool| {
            (!first).then(|| (field, "stands twice; the first counts".to_owned()))
        };
        let mut fault = fault
            .chain(twice("number", numbers.insert(port.number)))
            .chain(twice("name", names.insert(&port.name)));
        if let Some((field, reason)) = fault.next() {
            error(format!("spec.ports[{index}].{field}"), reason);
        }
    }
}

fn endpoints(spec: &ServiceEntrySpec, source: Source, error: &mut impl FnMut(String, String)) {
    let selects = spec.workload_selector.is_some();
    if selects && (source != Source::Written || !spec.endpoints.is_empty()) {
        let reason = "accepted: with resolution STATIC and without endpoints".to_owned();
        error("spec.workloadSelector".to_owned(), reason);
    }
    if source == Source::Clients && !spec.endpoints.is_empty() {
        let reason = "accepted: with resolution STATIC or DNS".to_owned();
        error("spec.endpoints".to_owned(), reason);
        return;
    }
    let names: BTreeSet<&str> = spec.ports.iter().map(|port| &*port.name).collect();
    for (index, one) in spec.endpoints.iter().enumerate() {
        let field = format!("spec.endpoints[{index}]");
        let text = one.address.as_deref().unwrap_or_default();
        let found = text.parse::<IpAddr>().is_ok();
        if !found && (source == Source::Written || !is_name(&normal(text))) {
            let expected = match source {
                Source::Names => "an IP address or a host name",
                Source::Clients | Source::Written => "an IP address",
            };
            let reason = format!("found `{text}`, expected {expected}");
            error(format!("{field}.address"), reason);
        }
        for (name, written) in &one.ports {
            let outcome = number(*written).map(drop);
            let known = names.contains(name.as_str());
            let outcome = outcome.and_then(|()| {
                let reason = || "is the name of no port of the entry".to_owned();
                known.then_some(()).ok_or_else(reason)
            });
            if let Err(reason) = outcome {
                error(format!("{field}.ports[{name}]"), reason);
            }
        }
    }
}

fn warn(at: &At<'_, ServiceEntry>, source: Source, problems: &mut Problems) {
    let spec = &at.object.spec;
    let mut warning = |field: String, reason: &str| problems.warning(at.located, field, reason);
    let nobody = spec.endpoints.is_empty() && spec.workload_selector.is_none();
    if source == Source::Written && nobody {
        let reason = "is missing: with resolution STATIC the service has no endpoint without it";
        warning("spec.endpoints".to_owned(), reason);
    }
    if !spec.subject_alt_names.is_empty() {
        warning("spec.subjectAltNames".to_owned(), NOT_ENFORCED);
    }
    for (index, one) in spec.endpoints.iter().enumerate() {
        for (field, there) in [
            ("network", one.network.is_some()),
            ("serviceAccount", one.service_account.is_some()),
        ] {
            if there {
                warning(format!("spec.endpoints[{index}].{field}"), NOT_ENFORCED);
            }
        }
    }
}
