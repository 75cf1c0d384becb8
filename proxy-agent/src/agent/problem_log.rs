//! The log's lines about the configuration: one when something is newly wrong, one when it no
//! longer is. Decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Problem, Severity};

/// Lines of one snapshot at most: `status` has them all.
const MAX_LINES: usize = 100;

/// What was said before, so that each problem is one line however often it is compiled.
#[derive(Debug, Default)]
pub(super) struct ProblemLog {
    problems: Arc<[Arc<Problem>]>,
    unserved: Arc<[Arc<str>]>,
}

/// A line and how bad it is.
type Lines = BTreeMap<String, Severity>;

impl ProblemLog {
    /// Says what is new and what is gone since the last call.
    pub(super) fn tell(&mut self, problems: &Arc<[Arc<Problem>]>, unserved: &Arc<[Arc<str>]>) {
        let (new, gone) = self.news(problems, unserved);
        for (line, severity) in new.iter().take(MAX_LINES) {
            match severity {
                Severity::Error => tracing::error!("{line}"),
                Severity::Warning => tracing::warn!("{line}"),
            }
        }
        for line in gone.keys().take(MAX_LINES) {
            tracing::info!("no longer: {line}");
        }
        let more = |lines: &Lines| lines.len().saturating_sub(MAX_LINES);
        if more(&new) + more(&gone) > 0 {
            let (new, gone) = (more(&new), more(&gone));
            tracing::warn!(
                new,
                gone,
                "more lines of this sort; `proxy-agent status` has them"
            );
        }
    }

    /// Takes over what is wrong now; returns what is new and what is gone. Costs little for what
    /// stayed the same in memory.
    fn news(
        &mut self,
        problems: &Arc<[Arc<Problem>]>,
        unserved: &Arc<[Arc<str>]>,
    ) -> (Lines, Lines) {
        let (mut new, mut gone) = (Lines::new(), Lines::new());
        if !Arc::ptr_eq(problems, &self.problems) {
            let line = |problem: &Arc<Problem>| (problem.to_string(), problem.severity);
            let (came, went) = (
                alone(problems, &self.problems),
                alone(&self.problems, problems),
            );
            new.extend(came.map(line));
            gone.extend(went.map(line));
            self.problems = Arc::clone(problems);
        }
        if !Arc::ptr_eq(unserved, &self.unserved) {
            let line = |name: &Arc<str>| (format!("{name}: no usable endpoint"), Severity::Warning);
            let (came, went) = (
                missing(unserved, &self.unserved),
                missing(&self.unserved, unserved),
            );
            new.extend(came.map(line));
            gone.extend(went.map(line));
            self.unserved = Arc::clone(unserved);
        }
        // The same words may have been found anew.
        let both: Vec<_> = new
            .keys()
            .filter(|line| gone.contains_key(*line))
            .cloned()
            .collect();
        for line in both {
            new.remove(&line);
            gone.remove(&line);
        }
        (new, gone)
    }
}

/// The problems of `these` that are not the same in memory as one of `others`.
fn alone<'a>(
    these: &'a [Arc<Problem>],
    others: &[Arc<Problem>],
) -> impl Iterator<Item = &'a Arc<Problem>> {
    let others: std::collections::HashSet<_> = others.iter().map(Arc::as_ptr).collect();
    let these = these.iter();
    these.filter(move |problem| !others.contains(&Arc::as_ptr(problem)))
}

/// The names of `these` that are not in `others`; both are sorted.
fn missing<'a>(
    these: &'a [Arc<str>],
    others: &'a [Arc<str>],
) -> impl Iterator<Item = &'a Arc<str>> {
    these
        .iter()
        .filter(|name| others.binary_search(name).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(reason: &str) -> Arc<Problem> {
        Arc::new(Problem {
            severity: Severity::Error,
            place: None,
            object: None,
            field: String::new(),
            reason: reason.to_owned(),
        })
    }

    fn keys(lines: &Lines) -> Vec<&str> {
        lines.keys().map(String::as_str).collect()
    }

    #[test]
    fn each_problem_is_said_once_and_once_more_when_it_is_gone() {
        let mut log = ProblemLog::default();
        let (a, b, none) = (problem("a"), problem("b"), Arc::default());
        let (new, gone) = log.news(&[Arc::clone(&a)].into(), &none);
        assert_eq!((keys(&new), keys(&gone)), (vec!["a"], vec![]));
        let (new, gone) = log.news(&[b, a].into(), &none);
        assert_eq!((keys(&new), keys(&gone)), (vec!["b"], vec![]));
        let (new, gone) = log.news(&[problem("a")].into(), &none);
        assert_eq!(
            (keys(&new), keys(&gone)),
            (vec![], vec!["b"]),
            "the same words, found anew, are no news"
        );
    }

    #[test]
    fn a_service_without_endpoints_is_said_until_it_has_some() {
        let mut log = ProblemLog::default();
        let both: Arc<[Arc<str>]> = ["ns/a:80".into(), "ns/b:80".into()].into();
        let (new, _) = log.news(&Arc::default(), &both);
        let lines = ["ns/a:80: no usable endpoint", "ns/b:80: no usable endpoint"];
        assert_eq!(keys(&new), lines);
        let (new, gone) = log.news(&Arc::default(), &["ns/b:80".into()].into());
        assert_eq!((keys(&new), keys(&gone)), (vec![], vec![lines[0]]));
    }
}
