//! What a Service's annotations say of requests whose rules do not say it themselves.

use std::sync::Arc;

use super::annotations::{Annotated, Limits};
use crate::model::{Policies, Retry, Rule};

/// What a rule says itself, so that nothing is filled in for it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Says {
    /// Whether, and when, its requests are sent again.
    pub retry: bool,
    /// How long they may take.
    pub limits: bool,
}

impl Says {
    /// What either says.
    pub(super) const fn or(self, other: Self) -> Self {
        Self {
            retry: self.retry || other.retry,
            limits: self.limits || other.limits,
        }
    }
}

/// Fills in for a rule what it does not say itself.
pub(super) fn fill_in(rule: &mut Rule, says: Says, defaults: &Annotated) {
    if let Some(retry) = defaults.retry.as_ref().filter(|_| !says.retry) {
        set_retry(rule, retry);
    }
    if let Some(limits) = defaults.limits.filter(|_| !says.limits) {
        set_limits(rule, limits);
    }
}

/// Puts what a route's own annotations say in place of what its rule says.
pub(super) fn override_with(rule: &mut Rule, annotated: &Annotated) -> Says {
    if let Some(retry) = &annotated.retry {
        set_retry(rule, retry);
    }
    if let Some(limits) = annotated.limits {
        set_limits(rule, limits);
    }
    Says {
        retry: annotated.retry.is_some(),
        limits: annotated.limits.is_some(),
    }
}

fn set_retry(rule: &mut Rule, retry: &Retry) {
    let retry = (retry.attempts > 0).then(|| retry.clone());
    with_policies(rule, |policies| policies.retry = retry);
}

fn set_limits(rule: &mut Rule, limits: Limits) {
    rule.timeouts.request = limits.timeouts.request.or(rule.timeouts.request);
    with_policies(rule, |policies| policies.stream = limits.stream);
}

fn with_policies(rule: &mut Rule, change: impl FnOnce(&mut Policies)) {
    let mut policies = rule.policies.as_deref().cloned().unwrap_or_default();
    change(&mut policies);
    rule.policies = (!policies.is_empty()).then(|| Arc::new(policies));
}
