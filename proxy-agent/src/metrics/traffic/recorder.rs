//! What the workers count for one endpoint, one pod, and themselves.

use std::collections::BTreeMap;

use super::counter::{Counter, Reasons, Recorder};

/// Defines a recorder of plain counters and its sum.
macro_rules! plain_recorder {
    (
        $(#[$doc:meta])* $recorder:ident;
        $(#[$totals_doc:meta])* $totals:ident;
        $($(#[$field_doc:meta])* $method:ident => $field:ident,)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $recorder {
            $($field: Counter,)*
        }

        impl $recorder {
            $($(#[$field_doc])*
            pub fn $method(&self) {
                self.$field.add(1);
            })*
        }

        $(#[$totals_doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct $totals {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl Recorder for $recorder {
            type Totals = $totals;

            fn add_to(&self, totals: &mut $totals) {
                $(totals.$field += self.$field.value();)*
            }
        }
    };
}

plain_recorder! {
    /// What one worker sent to one endpoint.
    EndpointRecorder;
    /// Sum of [`EndpointRecorder`]s.
    EndpointTotals;
    /// Requests or opaque connections that are over: as often as `sent`.
    ended => ended_total,
    /// Requests or opaque connections that were sent to it.
    sent => sent_total,
    /// Connects to it that failed.
    connect_failed => connect_failures_total,
}

plain_recorder! {
    /// What one worker accepted from one pod.
    PodRecorder;
    /// Sum of [`PodRecorder`]s.
    PodTotals;
    /// Connections that are closed: as often as `accepted`.
    closed => closed_total,
    /// Connections that were accepted.
    accepted => accepted_total,
}

/// What one worker did, whatever the pod and the cluster.
#[derive(Debug, Default)]
pub struct WorkerRecorder {
    closed: Counter,
    accepted: Counter,
    orig_dst_missing: Counter,
    accept_errors: Counter,
    reasons: Reasons,
    unaccelerated: Reasons,
}

impl WorkerRecorder {
    /// A connection of a pod that asks for acceleration has none, or not in both directions.
    pub fn unaccelerated(&self, reason: &'static str) {
        self.unaccelerated.count(reason);
    }

    /// A connection was accepted.
    pub fn accepted(&self) {
        self.accepted.add(1);
    }

    /// A connection is over: as often as `accepted`.
    pub fn closed(&self) {
        self.closed.add(1);
    }

    /// A connection was reset, since where it was meant to go is not known.
    pub fn orig_dst_missing(&self) {
        self.orig_dst_missing.add(1);
    }

    /// accept(2) failed.
    pub fn accept_error(&self) {
        self.accept_errors.add(1);
    }

    /// The agent answered a request, or ended a connection, itself.
    pub fn reason(&self, reason: &'static str) {
        self.reasons.count(reason);
    }
}

/// Sum of [`WorkerRecorder`]s.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WorkerTotals {
    /// Connections accepted.
    pub accepted_total: u64,
    /// Connections closed.
    pub closed_total: u64,
    /// Connections reset, since where they were meant to go is not known.
    pub orig_dst_missing_total: u64,
    /// Failures of accept(2).
    pub accept_errors_total: u64,
    /// Local replies, by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Connections of pods that ask for acceleration that have none, by reason.
    pub unaccelerated: BTreeMap<&'static str, u64>,
}

impl Recorder for WorkerRecorder {
    type Totals = WorkerTotals;

    fn add_to(&self, totals: &mut WorkerTotals) {
        totals.closed_total += self.closed.value();
        totals.accepted_total += self.accepted.value();
        totals.orig_dst_missing_total += self.orig_dst_missing.value();
        totals.accept_errors_total += self.accept_errors.value();
        self.reasons.add_to(&mut totals.reasons);
        self.unaccelerated.add_to(&mut totals.unaccelerated);
    }
}
