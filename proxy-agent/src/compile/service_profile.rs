//! Linkerd's ServiceProfile: routes of a Service by path and method, each with its timeout, what
//! counts as a failure, and whether that is tried again.

mod conditions;
mod destinations;
mod responses;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use self::destinations::Overrides;
use super::annotations::OpaquePorts;
use super::attach::{
    Attachment, Dialect, INVALID_ROUTE, Named, PortRule, Profile, forward_to, respond, shared_id,
};
use super::by_key::Name;
use super::defaults::Says;
use super::duration::go;
use super::faults::{Fault, Faults};
use super::index::At;
use super::routes::Compiled;
use super::scope::Scope;
use super::service::Port;
use super::{istio, switches};
use crate::model::{Action, Backoff, Match, Policies, Retry, RetryBudget, RetryOn, Rule, Timeouts};
use crate::objects::service_profile::{ProfileRoute, ServiceProfile};

/// Tries beyond the first at most. Linkerd sets no bound beside the budget and the timeout; here
/// one request cannot use up the budget of all.
const MAX_ATTEMPTS: u32 = 16;

/// gRPC statuses that count as failures where no response class says otherwise: unknown,
/// deadline-exceeded, internal, unavailable, data-loss, as in Linkerd.
const GRPC_FAILURES: [u16; 5] = [2, 4, 13, 14, 15];

/// Compiles a ServiceProfile.
pub(super) fn compile(at: &At<'_, ServiceProfile>, scope: &mut Scope<'_>) -> Compiled {
    let mut compiled = Compiled::default();
    switches::name_what_is_without_effect(at.located, &mut scope.problems);
    let full_name = &at.located.id.name;
    // The name is always a full one: a short name of the own namespace would be another Service's.
    let found = istio::parse_host(full_name, "").filter(|(namespace, _)| !namespace.is_empty());
    let Some((service, ports)) = found.and_then(|key| scope.service(key)) else {
        let reason = format!(
            "found `{full_name}`, which is no Service that is known, as in web.shop.svc.cluster.local"
        );
        scope.problems.error(at.located, "metadata.name", reason);
        return compiled;
    };
    let own = &at.located.id.namespace;
    let clients = (service.namespace != *own).then(|| Arc::clone(own));
    let opaque = opaque(at, clients.is_some(), scope);
    let spec = &at.object.spec;
    let budget = budget(at, scope);
    let rules = if spec.routes.is_empty() && spec.dst_overrides.is_empty() {
        Vec::new()
    } else {
        rules(at, (&service, ports), budget, scope)
    };
    compiled.attachments.push(Attachment {
        located: Arc::clone(at.located),
        dialect: Dialect::ServiceProfile,
        service,
        port: None,
        clients,
        exactness: usize::MAX,
        rules: rules.into(),
        profile: Profile {
            overrides: !spec.dst_overrides.is_empty(),
            opaque,
        },
    });
    compiled
}

fn opaque(at: &At<'_, ServiceProfile>, of_client: bool, scope: &mut Scope<'_>) -> OpaquePorts {
    let mut all = OpaquePorts::default();
    let ports = &at.object.spec.opaque_ports;
    if of_client && !ports.is_empty() {
        let reason = "accepted, not enforced: which ports are opaque is said in the Service's \
                      own namespace";
        scope
            .problems
            .warning(at.located, "spec.opaquePorts", reason);
        return all;
    }
    for (index, port) in ports.iter().enumerate() {
        let text = match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        };
        match OpaquePorts::parse(&text) {
            Ok(ports) => all.extend(ports),
            Err(reason) => {
                let field = format!("spec.opaquePorts[{index}]");
                scope.problems.error(at.located, field, reason);
            }
        }
    }
    all
}

/// How a route is carried out.
#[derive(Clone, Debug, Default)]
struct CarriedOut {
    timeouts: Timeouts,
    policies: Option<Arc<Policies>>,
}

/// What a route does, whichever the port.
struct Planned {
    conditions: Match,
    field: Arc<str>,
    /// Why it cannot be carried out, else how.
    carried_out: Option<CarriedOut>,
}

fn rules(
    at: &At<'_, ServiceProfile>,
    (service, ports): (&Name, &[Port]),
    budget: Option<RetryBudget>,
    scope: &mut Scope<'_>,
) -> Vec<PortRule> {
    let planned = planned(at, budget, scope);
    let overrides = Overrides::compile(at, service, scope);
    let object = shared_id(at.located);
    let mut rules = Vec::new();
    for port in ports.iter().filter(|port| port.tcp) {
        let action = match &overrides {
            None => forward_to(port.id),
            Some(overrides) => overrides.action(at, port, scope),
        };
        let action = Arc::new(action);
        let invalid = Arc::new(respond(INVALID_ROUTE));
        rules.extend(planned.iter().map(|one| {
            let CarriedOut { timeouts, policies } = one.carried_out.clone().unwrap_or_default();
            let action: &Arc<Action> = if one.carried_out.is_some() {
                &action
            } else {
                &invalid
            };
            PortRule {
                rule: Rule {
                    object: Some(Arc::clone(&object)),
                    field: Arc::clone(&one.field),
                    conditions: one.conditions.clone(),
                    action: Arc::clone(action),
                    timeouts,
                    policies,
                },
                port: Some(port.number),
                named: Named::default(),
                says: Says::default(),
            }
        }));
    }
    rules
}

/// The routes, and what holds for requests that none of them matches.
fn planned(
    at: &At<'_, ServiceProfile>,
    budget: Option<RetryBudget>,
    scope: &mut Scope<'_>,
) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (index, route) in at.object.spec.routes.iter().enumerate() {
        let field = format!("spec.routes[{index}]");
        if at.located.is_unread(&field) {
            planned.push(Planned {
                conditions: conditions::of_unread(&route.condition),
                field: field.into(),
                carried_out: None,
            });
            continue;
        }
        let mut name = |faults: Vec<Fault>, consequence: &str| {
            for (below, reason) in faults {
                let reason = format!("{reason}; {consequence}");
                let field = format!("{field}.{below}");
                scope.problems.error(at.located, field, reason);
            }
        };
        // Both are looked at, whatever is wrong with one: a user hears of all at once.
        let carried_out = carried_out(route, budget)
            .map_err(|faults| name(faults, "the route answers 500"))
            .ok();
        let conditions = conditions::compile(&route.condition)
            .map_err(|faults| name(faults, "the route is left out"));
        if let Ok(conditions) = conditions {
            planned.push(Planned {
                conditions,
                field: field.into(),
                carried_out: carried_out.flatten(),
            });
        }
    }
    planned.push(Planned {
        conditions: Match::default(),
        field: "spec".into(),
        carried_out: Some(CarriedOut::default()),
    });
    planned
}

/// How a route is carried out; `None` if it is retryable by a budget that cannot be read.
fn carried_out(
    route: &ProfileRoute,
    budget: Option<RetryBudget>,
) -> Result<Option<CarriedOut>, Vec<Fault>> {
    let mut faults = Faults::default();
    let timeout = route.timeout.as_deref().filter(|text| !text.is_empty());
    let timeout = timeout.map(|text| {
        let reason = || format!("found `{text}`, expected a duration as in 300ms or 1m30s");
        go(text).ok_or_else(|| ("timeout".to_owned(), reason()))
    });
    let timeouts = Timeouts {
        request: faults
            .of(timeout.transpose())
            .filter(|limit| !limit.is_zero()),
        backend_request: None,
    };
    let failures = responses::failures(&route.response_classes);
    let failures = failures.unwrap_or_else(|mut found| {
        faults.0.append(&mut found);
        None
    });
    let retry = budget.filter(|_| route.is_retryable).map(|budget| Retry {
        attempts: MAX_ATTEMPTS,
        on: RetryOn {
            connect_failure: true,
            refused_stream: true,
            reset: true,
            statuses: failures.clone().unwrap_or_else(|| vec![500..=599]),
            grpc: GRPC_FAILURES.to_vec(),
        },
        per_try: None,
        backoff: Backoff::default(),
        budget: Some(budget),
    });
    let policies = Policies {
        retry,
        failures,
        ..Policies::default()
    };
    let policies = (!policies.is_empty()).then(|| Arc::new(policies));
    let known = budget.is_some() || !route.is_retryable;
    faults.or(known.then_some(CarriedOut { timeouts, policies }))
}

/// The budget of retryable routes, judged whether there is one or not; `None` if it cannot be read.
fn budget(at: &At<'_, ServiceProfile>, scope: &mut Scope<'_>) -> Option<RetryBudget> {
    let Some(from) = &at.object.spec.retry_budget else {
        return Some(RetryBudget::default());
    };
    let mut faults = Faults::default();
    let ratio = from.retry_ratio;
    if !(0.0..=1_000.0).contains(&ratio) {
        let reason = format!("found {ratio}, accepted: 0 to 1000");
        faults.0.push(("retryRatio".to_owned(), reason));
    }
    let ttl = go(&from.ttl).filter(|ttl| !ttl.is_zero() && ttl.as_secs() <= 3_600);
    let ttl = faults.of(ttl.ok_or_else(|| {
        let reason = format!(
            "found `{}`, expected a duration above 0, at most 1h",
            from.ttl
        );
        ("ttl".to_owned(), reason)
    }));
    faults
        .or(())
        .map_err(|faults| {
            for (below, reason) in faults {
                let reason = format!("{reason}; routes that are retryable answer 500");
                let field = format!("spec.retryBudget.{below}");
                scope.problems.error(at.located, field, reason);
            }
        })
        .ok()?;
    let per_million = std::time::Duration::from_secs_f64(ratio * 1_000_000.0).as_secs();
    Some(RetryBudget {
        per_million: u32::try_from(per_million).unwrap_or(u32::MAX),
        min_per_second: from.min_retries_per_second,
        ttl,
    })
}
