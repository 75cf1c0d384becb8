//! Problems and checks as lines: for `status`, `validate` and `check`.

use std::io::Write;

use super::table::Table;
use super::{Error, units};
use crate::bpf::preflight::Check;
use crate::cli::ReportFormat;
use crate::model::{Problem, Severity};
use crate::validate::Report;

/// Writes what came of a check of manifests: problems, errors first, the kinds that are not read,
/// and a last line with the numbers. As JSON: the problems.
///
/// # Errors
///
/// When the output is closed or full.
pub fn report(report: &Report, format: ReportFormat, out: &mut dyn Write) -> Result<(), Error> {
    let text = match format {
        ReportFormat::Json => super::json(&report.problems)?,
        ReportFormat::Table => report_lines(report),
    };
    super::write(out, &text)
}

/// Writes `checks`, and below them what to do about those that failed.
///
/// # Errors
///
/// When the output is closed or full.
pub fn checks(checks: &[Check], format: ReportFormat, out: &mut dyn Write) -> Result<(), Error> {
    let text = match format {
        ReportFormat::Json => super::json(&checks)?,
        ReportFormat::Table => check_lines(checks),
    };
    super::write(out, &text)
}

fn check_lines(checks: &[Check]) -> String {
    let mut table = Table::new(["CHECK", "RESULT", "FOUND"]);
    for check in checks {
        let result = if check.ok { "ok" } else { "GAP" };
        table.row([check.name.clone(), result.to_owned(), check.detail.clone()]);
    }
    let gaps: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
    let mut text = table.finish("nothing was checked");
    for gap in &gaps {
        text += &format!("{}: {}\n", gap.name, gap.remedy);
    }
    text + &format!("{} of {} checks failed\n", gaps.len(), checks.len())
}

fn report_lines(report: &Report) -> String {
    let problems = &report.problems;
    let mut text: String = sorted(problems)
        .into_iter()
        .map(|problem| line(problem) + "\n")
        .collect();
    let kinds = report.not_read.iter().map(|(kind, number)| match number {
        1 => kind.clone(),
        number => format!("{kind} ({number})"),
    });
    let kinds: Vec<_> = kinds.collect();
    if !kinds.is_empty() {
        text += &format!("not read: {}\n", kinds.join(", "));
    }
    text += &units::count(report.objects, "object");
    text += ": ";
    let errors = problems.iter().filter(|it| it.severity == Severity::Error);
    let errors = errors.count();
    text += &units::count(errors, "error");
    text += ", ";
    text += &units::count(problems.len() - errors, "warning");
    text + "\n"
}

/// Errors first, else as they come.
pub(super) fn sorted(problems: &[Problem]) -> Vec<&Problem> {
    let mut sorted: Vec<_> = problems.iter().collect();
    sorted.sort_by_key(|problem| problem.severity == Severity::Warning);
    sorted
}

/// One problem: severity, place, object, field, reason.
pub(super) fn line(problem: &Problem) -> String {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    format!("{severity}: {problem}")
}
