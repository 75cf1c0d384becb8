//! `balancer.linkerd.io/failure-accrual`.

use super::{Reader, duration};
use crate::model::FailureAccrual;

const MODE: &str = "balancer.linkerd.io/failure-accrual";

/// What a Service says of endpoints that fail.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<FailureAccrual> {
    let mode = reader.text(MODE);
    let name = |part: &str| format!("{MODE}-consecutive-{part}");
    let default = FailureAccrual::default();
    let failures = reader.read(&name("max-failures"), failures);
    let min = reader.read(&name("min-penalty"), duration);
    let max = reader.read(&name("max-penalty"), duration);
    let jitter = reader.read(&name("jitter-ratio"), percent);
    let said = failures.is_some() || min.is_some() || max.is_some() || jitter.is_some();
    match mode {
        Some("consecutive") => {}
        Some(other) => {
            let reason = format!("found `{other}`, accepted: consecutive; counts as absent");
            let problems = &mut reader.problems;
            problems.error(reader.located, super::field(MODE), reason);
            return None;
        }
        None if said => {
            reader.warn(
                MODE,
                "is missing: without it, what stands beside has no effect",
            );
            return None;
        }
        None => return None,
    }
    let accrual = FailureAccrual {
        max_failures: failures.unwrap_or(default.max_failures),
        min_penalty: min.unwrap_or(default.min_penalty),
        max_penalty: max.unwrap_or(default.max_penalty),
        jitter_percent: jitter.unwrap_or(default.jitter_percent),
    };
    if accrual.min_penalty > accrual.max_penalty {
        let (min, max) = (accrual.min_penalty, accrual.max_penalty);
        let reason = format!("found {min:?}, which is more than the greatest penalty ({max:?})");
        let field = super::field(&name("min-penalty"));
        reader.problems.error(reader.located, field, reason);
        return None;
    }
    reader.warn(MODE, "accepted, not enforced by this version");
    Some(accrual)
}

fn failures(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("found `{text}`, expected a number above 0"))
}

fn percent(text: &str) -> Result<u32, String> {
    let ratio = text.parse::<f64>().ok();
    let ratio = ratio.filter(|ratio| (0.0..=100.0).contains(ratio));
    let percent = ratio.map(|ratio| std::time::Duration::from_secs_f64(ratio * 100.0).as_secs());
    percent
        .and_then(|percent| u32::try_from(percent).ok())
        .ok_or_else(|| format!("found `{text}`, accepted: 0 to 100"))
}
