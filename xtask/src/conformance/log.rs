//! What the conformance suite's log says: which tests passed, and what was not ready when it was
//! asked for.

use std::fmt;
use std::time::Duration;

/// Later than this after an apply, nothing may still be on its way.
const SOON: Duration = Duration::from_secs(1);

/// A summary of the suite's log, gathered line by line.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Tests of the suite that passed.
    pub(super) passed: u32,
    /// Tests that failed, by name.
    pub(super) failed: Vec<String>,
    skipped: u32,
    /// Distributions that were not within the suite's bounds, and measured again.
    weighed_again: u32,
    /// The test whose lines are read.
    test: String,
    /// Answers that were not as expected yet, with their test and their time after the first try.
    not_ready: Vec<(String, Duration)>,
}

impl Log {
    /// Reads a line; what is worth showing at once is returned.
    pub(super) fn read(&mut self, line: &str) -> Option<String> {
        let line = line.trim_start();
        if let Some(name) = switched_to(line) {
            name.clone_into(&mut self.test);
        } else if line.contains("Traffic distribution test failed") {
            self.weighed_again += 1;
        // With the colon: what is not ready is an answer, not a pod.
        } else if line.contains("not ready yet:") {
            self.not_ready
                .push((self.test.clone(), elapsed(line).unwrap_or_default()));
        } else if let Some(verdict) = line.strip_prefix("--- ") {
            return self.conclude(verdict);
        }
        None
    }

    /// What was not as expected although there had been time.
    pub(super) fn late(&self) -> Vec<&(String, Duration)> {
        let late = self.not_ready.iter().filter(|(_, after)| *after > SOON);
        late.collect()
    }

    /// Counts the verdict on one of the suite's tests; parts of tests are part of theirs.
    fn conclude(&mut self, verdict: &str) -> Option<String> {
        let (word, name) = verdict.split_once(": ")?;
        let name = name.split(' ').next()?.strip_prefix("TestConformance/")?;
        if name.contains('/') {
            return None;
        }
        match word {
            "PASS" => self.passed += 1,
            "SKIP" => {
                self.skipped += 1;
                return None;
            }
            _ => self.failed.push(name.to_owned()),
        }
        Some(format!("   {word} {name}"))
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, skipped) = (self.failed.len(), self.skipped);
        writeln!(
            f,
            "{} passed, {failed} failed, {skipped} not asked for",
            self.passed
        )?;
        for name in &self.failed {
            writeln!(f, "   failed: {name}")?;
        }
        let late = self.late();
        writeln!(
            f,
            "{} answers were not as expected yet, {} of them later than {SOON:?} after the first try",
            self.not_ready.len(),
            late.len()
        )?;
        for (test, after) in late {
            writeln!(f, "   {after:.2?} {test}")?;
        }
        let again = self.weighed_again;
        writeln!(f, "{again} distributions of traffic were measured again")
    }
}

/// The test that the lines after this one are of: `=== RUN   TestConformance/MeshBasic`.
fn switched_to(line: &str) -> Option<&str> {
    let (word, name) = line.strip_prefix("=== ")?.split_once(' ')?;
    ["RUN", "CONT", "NAME"]
        .contains(&word)
        .then_some(name.trim())
}

/// The time in `(after 1.234s)` at a line's end.
fn elapsed(line: &str) -> Option<Duration> {
    let (_, time) = line.rsplit_once("(after ")?;
    go_duration(time.strip_suffix(')')?)
}

/// Go writes durations as `1m2.5s`, `250ms`, `12.3µs`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(go_duration("1m2.5s"), Some(Duration::from_millis(62_500)));
        assert_eq!(go_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(go_duration("3 s"), None);
    }

    #[test]
    fn tests_are_counted_and_their_parts_are_not() {
        let mut log = Log::default();
        for line in [
            "=== RUN   TestConformance/MeshSplit",
            "=== PAUSE TestConformance/MeshSplit",
            "=== NAME  TestConformance/MeshBasic",
            "    helpers.go:304: Pod echo not ready yet",
            "    pod.go:67: Request [client] failed, not ready yet: x (after 12.5ms)",
            "    pod.go:72: Response expectation failed: not ready yet: y (after 1.5s)",
            "    weight.go:76: Traffic distribution test failed (1/10): x",
            "    --- PASS: TestConformance/MeshBasic (1.60s)",
            "        --- PASS: TestConformance/MeshBasic/part (1.60s)",
            "    --- FAIL: TestConformance/MeshSplit (5.00s)",
            "    --- SKIP: TestConformance/MeshPorts (0.00s)",
        ] {
            log.read(line);
        }

        assert_eq!((log.passed, log.skipped), (1, 1));
        assert_eq!(log.failed, ["MeshSplit"]);
        let text = log.to_string();
        assert!(
            text.contains("2 answers were not as expected yet, 1 of them"),
            "{text}"
        );
        assert!(text.contains("1.50s TestConformance/MeshBasic"), "{text}");
        assert!(text.contains("1 distributions"), "{text}");
    }
}
