//! Problems as lines: for `status` and `validate`.

use std::io::Write;

use super::{Error, units};
use crate::cli::ReportFormat;
use crate::model::{Problem, Severity};

/// Writes `problems`, errors first, and a last line with their numbers.
///
/// # Errors
///
/// When the output is closed or full.
pub fn problems(
    problems: &[Problem],
    format: ReportFormat,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let text = match format {
        ReportFormat::Json => {
            let text = serde_json::to_string_pretty(problems);
            text.map(|text| text + "\n")
                .map_err(|source| Error::Format {
                    format: "JSON",
                    source: source.into(),
                })?
        }
        ReportFormat::Table => table(problems),
    };
    super::write(out, &text)
}

fn table(problems: &[Problem]) -> String {
    let mut text: String = sorted(problems)
        .into_iter()
        .map(|problem| line(problem) + "\n")
        .collect();
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
