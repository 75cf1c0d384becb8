//! What came of a machine: read from its lines, shown as a table.

use std::time::Duration;

use super::machine::Said;

/// Messages after which a kernel is not well, whatever the tests say.
const COMPLAINTS: &[&str] = &[
    "BUG:",
    "Oops",
    "WARNING:",
    "general protection",
    "Out of memory",
];

/// One suite on one kernel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct SuiteOutcome {
    name: String,
    passed: u32,
    failed: Vec<String>,
    /// Exit status; `None` if it never ended.
    status: Option<i32>,
}

impl SuiteOutcome {
    fn is_good(&self) -> bool {
        self.status == Some(0) && self.failed.is_empty()
    }

    fn cell(&self) -> String {
        match (self.is_good(), self.passed) {
            (true, 0) => "ok".to_owned(),
            (true, passed) => format!("{passed} passed"),
            (false, _) if self.failed.is_empty() => match self.status {
                Some(status) => format!("**exit {status}**"),
                None => "**no end**".to_owned(),
            },
            (false, passed) => format!("{passed} passed, **{} failed**", self.failed.len()),
        }
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
        let complains = |line: &&str| COMPLAINTS.iter().any(|words| line.contains(words));
        let complaints = said.console.lines().filter(complains);
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
        if let Some(rest) = line.strip_prefix("vm-test: status ") {
            suite.status = rest.split(' ').next().and_then(|code| code.parse().ok());
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            suite.passed += count(rest, "passed");
            continue;
        }
        // The verdict is on the test's own line only if the test has said nothing.
        if let Some(rest) = line.strip_prefix("test ")
            && let Some((name, _)) = rest.split_once(" ... ")
        {
            test = name;
        }
        if line.ends_with("FAILED") && !test.is_empty() {
            suite.failed.push(std::mem::take(&mut test).to_owned());
        }
    }
    suites
}

/// The number before a word in libtest's conclusion.
fn count(conclusion: &str, word: &str) -> u32 {
    let mut parts = conclusion.split([';', '.']).map(str::trim);
    let number = parts.find_map(|part| part.strip_suffix(word)?.trim().parse().ok());
    number.unwrap_or(0)
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
        assert_eq!(stopped.faults().len(), 1);

        let crashed = report(&["vm-test: begin tcp", "vm-test: status 134 of tcp"], "");
        assert_eq!(crashed.faults().len(), 1);

        let unwell = report(&GOOD, "[   12.3] WARNING: CPU: 0 PID: 1 at net/core/sock.c");
        assert_eq!(unwell.faults().len(), 1);
        assert_eq!(report(&[], "").faults(), ["6.1: nothing ran"]);
    }
}
