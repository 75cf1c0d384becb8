//! `cargo xtask tidy`: the rules of the house that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace::root;

mod layers;

/// Lines of product code, without the tests at its end, that one file may have.
const MAX_LINES: usize = 400;

/// Where Rust stands.
const SOURCES: &[&str] = &["proxy-agent", "proxy-ebpf", "tests", "xtask"];

/// `cargo xtask tidy`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {}

/// Runs the verb.
pub(crate) fn run(_: &Args) -> Result<()> {
    let mut files = Vec::new();
    for source in SOURCES {
        rust_files(&root().join(source), &mut files)?;
    }
    let mut findings = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let path = file.strip_prefix(root()).unwrap_or(file);
        findings.extend(check(path, &text).map(|finding| format!("{}: {finding}", path.display())));
    }
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings in {} files", findings.len(), files.len());
    }
    println!("tidy: {} files in order", files.len());
    Ok(())
}

fn check(path: &Path, text: &str) -> impl Iterator<Item = String> {
    let header = (!text.starts_with("//!"))
        .then(|| "does not open with `//!`: what it owns, what it must not do".to_owned());
    let lines = product_lines(text);
    let length = (lines > MAX_LINES)
        .then(|| format!("has {lines} lines of product code, more than {MAX_LINES}"));
    let agent = path.strip_prefix("proxy-agent/src").ok();
    let layers = agent
        .map(|module| layers::check(module, text))
        .unwrap_or_default();
    header.into_iter().chain(length).chain(layers)
}

/// Lines up to the tests that stand at the end of a file.
fn product_lines(text: &str) -> usize {
    product(text).lines().count()
}

/// The text without the tests at its end.
fn product(text: &str) -> &str {
    let tests = text.find("\n#[cfg(test)]\nmod tests {");
    tests.map_or(text, |at| &text[..at])
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory);
    let entries = entries.with_context(|| format!("read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(Path::new(path), text).collect()
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(findings("tests/src/a.rs", "//! Owns a.\n"), [""; 0]);
        assert_eq!(findings("tests/src/a.rs", "fn a() {}\n").len(), 1);
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let product = format!("//! Owns a.\n{}", "// x\n".repeat(MAX_LINES - 1));
        let tests = format!("\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// y\n".repeat(500));

        assert_eq!(
            findings("tests/src/a.rs", &format!("{product}{tests}")),
            [""; 0]
        );
        assert_eq!(
            findings("tests/src/a.rs", &format!("{product}// x\n")).len(),
            1
        );
    }
}
