//! Which tests run in a machine, and their programs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::build_ebpf;
use crate::workspace::{cargo, run, shown};

/// One test program.
#[derive(Debug)]
pub(super) struct Suite {
    /// As `--test` and the results name it.
    pub(super) name: &'static str,
    package: &'static str,
    /// What cargo calls it.
    target: &'static str,
    /// Only those tests of it that need root.
    privileged: bool,
    /// How far pods are from each other, one way.
    delay_ms: u8,
    /// How long it may take, under emulation on a busy machine.
    pub(super) seconds: u32,
}

const fn of_agent(name: &'static str, target: &'static str) -> Suite {
    Suite {
        name,
        package: "proxy-agent",
        target,
        privileged: true,
        delay_ms: 0,
        seconds: 600,
    }
}

const fn end_to_end(name: &'static str) -> Suite {
    Suite {
        name,
        package: "proxy-e2e",
        target: name,
        privileged: false,
        delay_ms: 0,
        seconds: 600,
    }
}

/// The same tests, on links with delay: many development kernels have no netem.
const fn far_apart(name: &'static str, target: &'static str, delay_ms: u8) -> Suite {
    Suite {
        name,
        target,
        delay_ms,
        ..end_to_end(target)
    }
}

/// The same with more time: they load many programs, move many bytes, or wait for many an agent to start and end.
const fn patient(suite: Suite) -> Suite {
    Suite {
        seconds: 1_500,
        ..suite
    }
}

/// What meets the kernel. What is left out is the same on every kernel.
pub(super) const SUITES: &[Suite] = &[
    patient(of_agent("hooks", "kernel")),
    of_agent("enrolment", "capture"),
    end_to_end("vm"),
    end_to_end("redirect"),
    end_to_end("capture"),
    end_to_end("bpf"),
    end_to_end("tcp"),
    end_to_end("http1"),
    patient(end_to_end("handover")),
    patient(end_to_end("acceleration")),
    far_apart("redirect+2ms", "redirect", 2),
    far_apart("tcp+1ms", "tcp", 1),
    far_apart("http1+5ms", "http1", 5),
    patient(far_apart("acceleration+1ms", "acceleration", 1)),
];

/// A built suite.
pub(super) struct Built {
    pub(super) suite: &'static Suite,
    pub(super) program: PathBuf,
}

impl Built {
    /// Its line of the machine's plan. What a test says is shown at once: of a suite that does not come to
    /// its end in time nothing else would be left.
    pub(super) fn plan(&self, filters: &[String]) -> String {
        let Suite {
            name,
            seconds,
            privileged,
            delay_ms,
            ..
        } = self.suite;
        let delay = match delay_ms {
            0 => String::new(),
            delay_ms => format!("env PROXY_E2E_DELAY_MS={delay_ms} "),
        };
        let ignored = if *privileged { " --ignored" } else { "" };
        let filters = filters.iter().map(|filter| format!(" '{filter}'"));
        format!(
            "suite {name} {seconds} {delay}'{}' --test-threads=1 --color=never --no-capture{ignored}{}\n",
            self.program.display(),
            filters.collect::<String>()
        )
    }
}

/// Suites that are named, and those whose name contains a text that names none; without any text, all.
fn chosen(only: &[String]) -> Vec<&'static Suite> {
    let matches = |suite: &Suite, text: &str| {
        let names_one = SUITES.iter().any(|suite| suite.name == text);
        suite.name == text || (!names_one && suite.name.contains(text))
    };
    let is_asked = |suite: &&Suite| only.is_empty() || only.iter().any(|text| matches(suite, text));
    SUITES.iter().filter(is_asked).collect()
}

/// Builds the agent and the [`chosen`] suites.
pub(super) fn build(only: &[String]) -> Result<Vec<Built>> {
    let chosen = chosen(only);
    if chosen.is_empty() {
        let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        bail!("no such tests; there are {}", names.join(", "));
    }
    build_ebpf::build()?;
    let packages = ["--package", "proxy-agent", "--package", "proxy-e2e"];
    run(cargo().arg("build").args(packages))?;
    let mut built = Vec::new();
    for package in ["proxy-agent", "proxy-e2e"] {
        let of_package = chosen.iter().filter(|suite| suite.package == package);
        let suites: Vec<&'static Suite> = of_package.copied().collect();
        if suites.is_empty() {
            continue;
        }
        let mut command = cargo();
        command.args(["test", "--no-run", "--package", package]);
        command.arg("--message-format=json-render-diagnostics");
        let targets: BTreeSet<&str> = suites.iter().map(|suite| suite.target).collect();
        for target in targets {
            command.args(["--test", target]);
        }
        let messages = output(&mut command)?;
        for suite in suites {
            let program = executable(&messages, suite.target)
                .with_context(|| format!("cargo did not say where {} is", suite.name))?;
            built.push(Built { suite, program });
        }
    }
    Ok(built)
}

/// What a command prints, while its errors are shown.
fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("start {}", shown(command)))?;
    ensure!(output.status.success(), "{} failed", shown(command));
    String::from_utf8(output.stdout).context("cargo speaks UTF-8")
}

/// Where cargo put a test program, from its messages: one JSON object a line.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    let mut messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.find_map(|message| {
        let is_it = message["reason"] == "compiler-artifact"
            && message["target"]["name"] == target
            && message["profile"]["test"] == true;
        let path = message["executable"].as_str()?;
        is_it.then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_chooses_one_suite_and_a_part_every_suite_that_has_it() {
        let names = |text: &str| -> Vec<&str> {
            let chosen = chosen(&[text.to_owned()]);
            chosen.iter().map(|suite| suite.name).collect()
        };
        assert_eq!(names("acceleration"), ["acceleration"]);
        assert_eq!(names("accel"), ["acceleration", "acceleration+1ms"]);
        assert_eq!(names("no such"), [""; 0]);
        assert_eq!(chosen(&[]).len(), SUITES.len());
    }

    #[test]
    fn the_program_of_a_test_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"tcp"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","target":{"name":"tcp"},"profile":{"test":true},"executable":"/t/deps/tcp-1"}
{"reason":"build-finished","success":true}"#;
        let found = executable(messages, "tcp");
        assert_eq!(found, Some(PathBuf::from("/t/deps/tcp-1")));
        assert_eq!(executable(messages, "bpf"), None);
    }
}
