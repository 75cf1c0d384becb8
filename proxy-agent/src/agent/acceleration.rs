//! Whether this agent accelerates: what it was told, and what this kernel makes of it.

use std::sync::Arc;

use crate::bpf::{Acceleration, Kernel, SelfTestItem};
use crate::cli::{Acceleration as Flag, RunArgs};
use crate::compile;
use crate::metrics::traffic::Traffic;
use crate::status::{AccelerationStatus, SelfTestStatus};

/// What was found out at the start.
#[derive(Debug)]
pub(super) struct Verdict {
    flag: Flag,
    usable: Option<Arc<Acceleration>>,
    unusable: String,
    items: Vec<SelfTestItem>,
}

impl Verdict {
    /// Tries what acceleration relies on, unless it is off.
    pub(super) fn of(args: &RunArgs, kernel: &Kernel) -> Self {
        let mut verdict = Self {
            flag: args.acceleration,
            usable: None,
            unusable: String::new(),
            items: Vec::new(),
        };
        if verdict.flag == Flag::Off {
            "--acceleration off".clone_into(&mut verdict.unusable);
            return verdict;
        }
        match kernel
            .acceleration()
            .and_then(|of| Ok((of, kernel.self_test()?)))
        {
            Ok((acceleration, items)) => verdict.judge(acceleration, items),
            Err(error) => verdict.unusable = error.to_string(),
        }
        if verdict.usable.is_none() {
            tracing::warn!(
                reason = verdict.unusable,
                "no connection is accelerated on this kernel"
            );
        }
        verdict
    }

    fn judge(&mut self, acceleration: &Arc<Acceleration>, items: Vec<SelfTestItem>) {
        self.items = items;
        let failed = self.items.iter().filter(|item| item.failure.is_some());
        let failed: Vec<_> = failed.map(|item| item.name).collect();
        if failed.is_empty() {
            self.usable = Some(Arc::clone(acceleration));
        } else {
            self.unusable = format!("self-test: {}", failed.join(", "));
        }
    }

    /// What connections are accelerated by.
    pub(super) const fn usable(&self) -> Option<&Arc<Acceleration>> {
        self.usable.as_ref()
    }

    /// Which pods are to be accelerated: none where none can be, so that no socket of theirs comes
    /// near it.
    pub(super) const fn asked(&self) -> compile::Acceleration {
        match (&self.usable, self.flag) {
            (None, _) | (Some(_), Flag::Off) => compile::Acceleration::Off,
            (Some(_), Flag::OptIn) => compile::Acceleration::OptIn,
            (Some(_), Flag::On) => compile::Acceleration::On,
        }
    }

    /// As `status` shows it.
    pub(super) fn status(&self, traffic: &Traffic) -> AccelerationStatus {
        let self_test = self.items.iter().map(|item| SelfTestStatus {
            name: item.name.to_owned(),
            failure: item.failure.clone().unwrap_or_default(),
        });
        let (open, total) = self.usable.as_ref().map_or((0, 0), |of| of.connections());
        let not = traffic.workers().unaccelerated.into_iter();
        AccelerationStatus {
            unusable: self.unusable.clone(),
            self_test: self_test.collect(),
            connections_open: open,
            connections_total: total,
            not_accelerated: not.map(|(why, n)| (why.to_owned(), n)).collect(),
        }
    }
}
