//! What came of a machine: read from its lines, shown as a table.

use std::time::Duration;

use super::machine::{Said, complains};

/// One suite on one kernel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct SuiteOutcome {
    name: String,
    passed: u32,
    failed: Vec<String>,
    /// Exit status; `None` if it never ended.
    status: Option<i32>,
}

/// Exit status of timeout(1) when it had to end what it ran.
const OUT_OF_TIME: i32 = 124;

impl SuiteOutcome {
    fn is_good(&self) -> bool {
        self.status == Some(0) && self.failed.is_empty()
    }

    fn cell(&self) -> String {
        let how = match self.status {
            Some(0) if self.passed == 0 && self.failed.is_empty() => return "ok".to_owned(),
            Some(OUT_OF_TIME) => Some("**out of time**".to_owned()),
            None => Some("**no end**".to_owned()),
            Some(status) if status != 0 && self.failed.is_empty() => {
                Some(format!("**exit {status}**"))
            }
            Some(_) => None,
        };
        let passed = (self.passed > 0).then(|| format!("{} passed", self.passed));
        let failed = self.failed.len();
        let failed = (failed > 0).then(|| format!("**{failed} failed**"));
        let parts: Vec<_> = [passed, failed, how].into_iter().flatten().collect();
        parts.join(", ")
    }
}

/// One kernel.
#[derive(Debug)]
pub(super) struct Report {
    name: &'static str,
    release: String,
    suites: Vec<SuiteOutcome>,
    complaints: Vec<String>,
    took: Duration,
}

impl Report {
    /// Reads what a machine said.
    pub(super) fn read(name: &'static str, release: &str, said: &Said) -> Self {
        let complaints = said.console.lines().filter(|line| complains(line));
        Self {
            name,
            release: release.to_owned(),
            suites: suites(&said.lines),
            complaints: complaints.map(|line| line.trim().to_owned()).collect(),
            took: said.took,
        }
    }

    /// What went wrong, one line each.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for suite in self.suites.iter().filter(|suite| !suite.is_good()) {
            let cell = suite.cell().replace("**", "");
            let tests = suite.failed.join(", ");
            faults.push(format!("{}, {}: {cell} {tests}", self.name, suite.name));
        }
        let complaints = self.complaints.iter();
        faults.extend(complaints.map(|line| format!("{}, the kernel: {line}", self.name)));
        if self.suites.is_empty() {
            faults.push(format!("{}: nothing ran", self.name));
        }
        faults
    }
}

/// The results of all kernels, in Markdown.
pub(super) fn table(reports: &[Report]) -> String {
    let Some(first) = reports.first() else {
        return String::new();
    };
    let names: Vec<&str> = first.suites.iter().map(|suite| &*suite.name).collect();
    let mut rows = vec![
        format!("| kernel | {} | whole run |", names.join(" | ")),
        format!("|{}", "---|".repeat(names.len() + 2)),
    ];
    for report in reports {
        let cells: Vec<String> = report.suites.iter().map(SuiteOutcome::cell).collect();
        let took = report.took.as_secs();
        let release = &report.release;
        rows.push(format!("| {release} | {} | {took} s |", cells.join(" | ")));
    }
    rows.join("\n")
}

/// Reads the guest script's and libtest's lines.
fn suites(lines: &[String]) -> Vec<SuiteOutcome> {
    let mut suites: Vec<SuiteOutcome> = Vec::new();
    let mut test = "";
    for line in lines {
        if let Some(name) = line.strip_prefix("vm-test: begin ") {
            suites.push(SuiteOutcome {
                name: name.to_owned(),
                ..SuiteOutcome::default()
            });
        }
        let Some(suite) = suites.last_mut() else {
            continue;
        };
        // Behind a test that was cut, on its line.
        if let Some((_, rest)) = line.split_once("vm-test: status ") {
            suite.status = rest.split(' ').next().and_then(|code| code.parse().ok());
        } else if line.starts_with("test result: ") {
            continue;
        }
        // The verdict is on the test's own line only if the test has said nothing.
        if let Some(rest) = line.strip_prefix("test ")
            && let Some((name, _)) = rest.split_once(" ...")
        {
            test = name;
        }
        if test.is_empty() {
            continue;
        }
        if line.ends_with("FAILED") {
            suite.failed.push(std::mem::take(&mut test).to_owned());
        } else if line == "ok" || line.ends_with(" ... ok") {
            suite.passed += 1;
            test = "";
        }
    }
    suites
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str], console: &str) -> Report {
        let said = Said {
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
            console: console.to_owned(),
            took: Duration::from_secs(61),
        };
        Report::read("6.1", "6.1.0-1", &said)
    }

    const GOOD: [&str; 5] = [
        "vm-test: begin tcp",
        "test a ... ok",
        "test b ... ok",
        "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; finished in 1.00s",
        "vm-test: status 0 of tcp",
    ];

    #[test]
    fn a_kernel_on_which_all_passed_has_no_faults() {
        let report = report(&GOOD, "[    0.1] Linux version\n");

        assert_eq!(report.faults(), [""; 0]);
        let row = "| 6.1.0-1 | 2 passed | 61 s |";
        assert_eq!(table(&[report]).lines().last(), Some(row));
    }

    #[test]
    fn every_way_to_go_wrong_is_a_fault() {
        let failed = report(
            &[
                "vm-test: begin tcp",
                "test a ... Error: not within 60s: it is over",
                "FAILED",
                "test b ... ok",
                "test result: FAILED. 1 passed; 1 failed; 0 ignored",
                "vm-test: status 101 of tcp",
            ],
            "",
        );
        assert_eq!(failed.faults(), ["6.1, tcp: 1 passed, 1 failed a"]);

        let stopped = report(&GOOD[..2], "");
        assert_eq!(stopped.faults(), ["6.1, tcp: 1 passed, no end "]);

        let late = report(
            &[
                "vm-test: begin tcp",
                "test a ... ok",
                "test b ...",
                "thread 'b' panicked",
                "FAILED",
                "test c ... vm-test: status 124 of tcp",
            ],
            "",
        );
        assert_eq!(
            late.faults(),
            ["6.1, tcp: 1 passed, 1 failed, out of time b"]
        );

        let crashed = report(&["vm-test: begin tcp", "vm-test: status 134 of tcp"], "");
        assert_eq!(crashed.faults().len(), 1);

        let unwell = report(&GOOD, "[   12.3] WARNING: CPU: 0 PID: 1 at net/core/sock.c");
        assert_eq!(unwell.faults().len(), 1);
        assert_eq!(report(&[], "").faults(), ["6.1: nothing ran"]);
    }
}
