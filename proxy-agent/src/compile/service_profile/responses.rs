//! `spec.routes[].responseClasses`: which statuses are failures, told for each beforehand.

use std::ops::RangeInclusive;

use super::conditions::MAX_DEPTH;
use super::{Fault, Faults};
use crate::objects::service_profile::{ResponseClass, ResponseMatch};

/// Every status that a response may have.
const STATUSES: RangeInclusive<u16> = 100..=599;

/// The statuses that are failures; `None` where the classes leave it at those from 500 on.
pub(super) fn failures(
    classes: &[ResponseClass],
) -> Result<Option<Vec<RangeInclusive<u16>>>, Vec<Fault>> {
    let mut faults = Faults::default();
    for (index, class) in classes.iter().enumerate() {
        let field = format!("responseClasses[{index}].condition");
        check(&class.condition, &field, MAX_DEPTH, &mut faults);
    }
    faults.or(())?;
    if classes.is_empty() {
        return Ok(None);
    }
    let is_failure = |status: u16| {
        let mut classes = classes.iter();
        let class = classes.find(|class| holds(&class.condition, status));
        class.map_or(status >= 500, |class| class.is_failure)
    };
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for status in STATUSES.filter(|status| is_failure(*status)) {
        match ranges.last_mut().filter(|last| last.end() + 1 == status) {
            Some(last) => *last = *last.start()..=status,
            None => ranges.push(status..=status),
        }
    }
    Ok(Some(ranges))
}

fn check(of: &ResponseMatch, field: &str, depth: usize, faults: &mut Faults) {
    if of.status.is_none() && of.all.is_none() && of.any.is_none() && of.not.is_none() {
        let reason = "says nothing; accepted: status, all, any, not".to_owned();
        faults.0.push((field.to_owned(), reason));
    }
    let Some(depth) = depth.checked_sub(1) else {
        let reason = format!("is more than {MAX_DEPTH} conditions deep");
        return faults.0.push((field.to_owned(), reason));
    };
    if let Some(status) = of.status {
        let (min, max) = (ends(status.min), ends(status.max));
        let known = |end: Option<u16>| end.is_none_or(|end| STATUSES.contains(&end));
        if !known(min) || !known(max) || min.zip(max).is_some_and(|(min, max)| max < min) {
            let reason = format!(
                "found {} to {}, accepted: 100 to 599",
                min.unwrap_or(*STATUSES.start()),
                max.unwrap_or(*STATUSES.end())
            );
            faults.0.push((format!("{field}.status"), reason));
        }
    }
    for (name, list) in [("all", &of.all), ("any", &of.any)] {
        for (index, inner) in list.iter().flatten().enumerate() {
            check(inner, &format!("{field}.{name}[{index}]"), depth, faults);
        }
    }
    if let Some(inner) = &of.not {
        check(inner, &format!("{field}.not"), depth, faults);
    }
}

/// 0 is an open end, as in Linkerd.
fn ends(end: Option<u16>) -> Option<u16> {
    end.filter(|end| *end > 0)
}

fn holds(of: &ResponseMatch, status: u16) -> bool {
    let in_range = of.status.is_none_or(|range| {
        ends(range.min).is_none_or(|min| min <= status)
            && ends(range.max).is_none_or(|max| status <= max)
    });
    let all = of.all.iter().flatten().all(|one| holds(one, status));
    let any = of
        .any
        .as_ref()
        .is_none_or(|any| any.iter().any(|one| holds(one, status)));
    in_range && all && any && !of.not.as_ref().is_some_and(|not| holds(not, status))
}
