//! What a rule does: its filters, destinations, limits and policies, and what is wrong with them.

use std::sync::Arc;

use gateway_api::apis::experimental::httproutes::{
    HttpRoute, HttpRouteRules, HttpRouteRulesTimeouts,
};

use super::destination::Of;
use super::filter::RuleFilters;
use super::findings::Findings;
use super::{Fault, Faults};
use super::{POLICY, destination, filter, policy};
use crate::compile::attach::{NO_DESTINATION, respond};
use crate::compile::defaults::Says;
use crate::compile::duration::gep2257;
use crate::compile::index::At;
use crate::compile::scope::Scope;
use crate::model::{Action, Match, Policies, Timeouts};

/// What a rule does, whichever of its alternatives matched.
pub(super) struct CarriedOut {
    pub action: Arc<Action>,
    pub timeouts: Timeouts,
    pub policies: Option<Arc<Policies>>,
    pub says: Says,
}

impl CarriedOut {
    /// Nothing but an action.
    pub(super) fn alone(action: Action) -> Self {
        Self {
            action: Arc::new(action),
            timeouts: Timeouts::default(),
            policies: None,
            says: Says::default(),
        }
    }
}

/// Compiles what a rule does.
pub(super) fn carried_out(
    at: &At<'_, HttpRoute>,
    position: usize,
    rule: &HttpRouteRules,
    conditions: &[&Match],
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Result<CarriedOut, Vec<Fault>> {
    let field = format!("spec.rules[{position}]");
    // Each part is looked at, whatever is wrong with another: a user hears of all at once.
    let mut faults = Faults::default();
    let timeouts = faults.of(rule.timeouts.as_ref().map(timeouts).transpose());
    let retry = faults.of(rule.retry.as_ref().map(policy::retry).transpose());
    let session = rule.session_persistence.as_ref();
    let session = session.map(|from| policy::session(at, position, from));
    let session = faults.of(session.transpose());
    let known = faults.0.len();
    let filters = faults.of(filter::compile(rule.filters.as_deref(), conditions));
    if faults.0.len() > known && rule.backend_refs.is_none() {
        // It may be a redirect, which needs no destination.
        return Err(faults.0);
    }
    let mirrors = policy::mirrors(at, &field, &filters.mirrors, scope, findings);
    let policies = Policies {
        retry: retry.filter(|retry| retry.attempts > 0),
        mirrors: faults.of(mirrors),
        cors: filters.cors.clone(),
        session,
        ..Policies::default()
    };
    match action(at, (&field, conditions), rule, filters, scope, findings) {
        Ok(action) if faults.0.is_empty() => Ok(CarriedOut {
            action: Arc::new(action),
            timeouts: timeouts.unwrap_or_default(),
            policies: (!policies.is_empty()).then(|| Arc::new(policies)),
            says: Says {
                retry: rule.retry.is_some(),
                limits: rule.timeouts.is_some(),
            },
        }),
        Ok(_) => Err(faults.0),
        Err(fault) => Err([faults.0, vec![fault]].concat()),
    }
}

fn action(
    at: &At<'_, HttpRoute>,
    (field, conditions): (&str, &[&Match]),
    rule: &HttpRouteRules,
    filters: RuleFilters<'_>,
    scope: &mut Scope<'_>,
    findings: &mut Findings,
) -> Result<Action, Fault> {
    let RuleFilters {
        filters, redirect, ..
    } = filters;
    let references = rule.backend_refs.as_deref().unwrap_or_default();
    if let Some(redirect) = redirect {
        if !references.is_empty() {
            let reason = "a rule with a RequestRedirect has no destinations".to_owned();
            return Err(("backendRefs".to_owned(), reason));
        }
        return Ok(Action::Redirect { filters, redirect });
    }
    let of = Of {
        field,
        conditions,
        filters: &filters,
    };
    let destinations = destination::compile(at, of, references, scope, findings)?;
    if references.is_empty() && &*at.located.id.group == POLICY {
        // Completed for each parent.
        return Ok(Action::Forward {
            filters,
            destinations,
        });
    }
    if destinations
        .iter()
        .all(|destination| destination.weight == 0)
    {
        let reason = "no destination with a weight; every request is answered 500";
        scope
            .problems
            .warning(at.located, format!("{field}.backendRefs"), reason);
        return Ok(respond(NO_DESTINATION));
    }
    Ok(Action::Forward {
        filters,
        destinations,
    })
}

fn timeouts(timeouts: &HttpRouteRulesTimeouts) -> Result<Timeouts, Fault> {
    let parse = |name: &str, text: &Option<String>| match text.as_deref() {
        None => Ok(None),
        Some(text) => gep2257(text)
            .map(|duration| Some(duration).filter(|duration| !duration.is_zero()))
            .ok_or_else(|| {
                let reason =
                    format!("found `{text}`, expected a duration as in 10s or 1m30s (GEP-2257)");
                (format!("timeouts.{name}"), reason)
            }),
    };
    let parsed = Timeouts {
        request: parse("request", &timeouts.request)?,
        backend_request: parse("backendRequest", &timeouts.backend_request)?,
    };
    match (parsed.request, parsed.backend_request) {
        (Some(whole), Some(one)) if one > whole => {
            let reason = format!("found {one:?}, which is more than timeouts.request ({whole:?})");
            Err(("timeouts.backendRequest".to_owned(), reason))
        }
        _ => Ok(parsed),
    }
}
