//! `fault` of a VirtualService's route: delays and failures made on purpose.

use super::policy::{duration, share, status_of};
use crate::compile::faults::Faults;
use crate::model::{Abort, AbortWith, Delay, DelayTime, Share};
use crate::objects::istio::{self, Percent};

/// gRPC statuses by name (grpc/doc/statuscodes.md).
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Compiles `fault`.
pub(super) fn compile(from: &istio::Fault, faults: &mut Faults) -> (Option<Delay>, Option<Abort>) {
    let delay = from.delay.as_ref().and_then(|from| delay(from, faults));
    let abort = from.abort.as_ref().and_then(|from| abort(from, faults));
    (delay, abort)
}

fn delay(from: &istio::Delay, faults: &mut Faults) -> Option<Delay> {
    let fault = |name: &str, reason| (format!("fault.delay.{name}"), reason);
    let time = match (&from.fixed_delay, &from.exponential_delay) {
        (Some(time), None) => duration(time)
            .map(DelayTime::Fixed)
            .map_err(|reason| fault("fixedDelay", reason)),
        (None, Some(mean)) => duration(mean)
            .map(DelayTime::Exponential)
            .map_err(|reason| fault("exponentialDelay", reason)),
        (None, None) | (Some(_), Some(_)) => {
            let reason = "accepted: one of fixedDelay, exponentialDelay".to_owned();
            Err(fault("fixedDelay", reason))
        }
    };
    let (name, percent) = match (from.percentage, from.percent) {
        (None, Some(older)) => (
            "percent",
            Some(Percent {
                value: older.into(),
            }),
        ),
        (percentage, _) => ("percentage", percentage),
    };
    let share = share_of_fault(percent).map_err(|reason| fault(name, reason));
    let (time, share) = (faults.of(time.map(Some)), faults.of(share.map(Some)));
    Some(Delay {
        time: time?,
        share: share?,
    })
}

fn abort(from: &istio::Abort, faults: &mut Faults) -> Option<Abort> {
    let fault = |name: &str, reason| (format!("fault.abort.{name}"), reason);
    let share = share_of_fault(from.percentage).map_err(|reason| fault("percentage", reason));
    let share = faults.of(share.map(Some));
    if from.http2_error.is_some() {
        let reason = "is not supported, nor by Istio; accepted: one of httpStatus, grpcStatus";
        faults.0.push(fault("http2Error", reason.to_owned()));
        return None;
    }
    let with = match (from.http_status, &from.grpc_status) {
        (Some(status), None) => status_of(status)
            .map(AbortWith::Http)
            .map_err(|reason| fault("httpStatus", reason)),
        (None, Some(name)) => grpc_status(name)
            .map(AbortWith::Grpc)
            .map_err(|reason| fault("grpcStatus", reason)),
        (None, None) | (Some(_), Some(_)) => {
            let reason = "accepted: one of httpStatus, grpcStatus".to_owned();
            Err(fault("httpStatus", reason))
        }
    };
    let with = faults.of(with.map(Some));
    Some(Abort {
        with: with?,
        share: share?,
    })
}

fn grpc_status(name: &str) -> Result<u16, String> {
    let number = name.parse().ok().filter(|code| *code < 17);
    let named = || GRPC_STATUSES.iter().position(|known| *known == name);
    let named = || named().and_then(|code| u16::try_from(code).ok());
    number
        .or_else(named)
        .ok_or_else(|| format!("found `{name}`, accepted: {}", GRPC_STATUSES.join(", ")))
}

/// The share of a fault: Istio's hit no request unless they say how many.
fn share_of_fault(percent: Option<Percent>) -> Result<Share, String> {
    share(percent.or(Some(Percent { value: 0.0 })))
}
