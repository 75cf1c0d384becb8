//! `cargo xtask chart`: helm's own lint, the chart rendered with each values file of its `ci/`, every
//! object against the schema of its kind, each value tried for an effect, and the manifests for
//! drift. No cluster is asked; installing the chart is the cluster tests'.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{root, run as run_command, target};
use crate::{manifests, tools};

mod schemas;
mod values;

/// Release and namespace of the rendered manifests and of the documents.
const NAME: &str = "proxy-agent";
/// The oldest Kubernetes of Chart.yaml's `kubeVersion`: what is rendered for it is checked. The
/// schemas are of the oldest version that there are types of, 1.33; the chart uses no field that is
/// younger than 1.30 (`internalTrafficPolicy` and `maxSurge` are of 1.26 and 1.25).
const KUBERNETES: &str = "1.30.0";
/// The chart, from the root of the project.
const CHART: &str = "deploy/helm/proxy-agent";

/// `cargo xtask chart`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {}

/// Runs the verb.
pub(crate) fn run(_: &Args) -> Result<()> {
    run_command(helm()?.args(["lint", "--strict", "--quiet", CHART]))?;
    let schemas = schemas::write()?;
    let rendered = render(None)?;
    validate(&schemas, "the default values", &rendered)?;
    let misspelt = rendered.replace("hostPID", "hostPid");
    let refused = validate(&schemas, "a misspelt field", &misspelt).is_err();
    ensure!(refused, "kubeconform accepts a misspelt field");
    for file in files("ci")? {
        let rendered = render(Some(&file))?;
        validate(&schemas, &file.display().to_string(), &rendered)?;
    }
    for file in files("ci/refused")? {
        let refused = render(Some(&file)).is_err();
        ensure!(refused, "{} is accepted by the chart", file.display());
    }
    versions_agree()?;
    let tried = values::all_have_an_effect()?;
    manifests::run(&manifests::Args { check: true })?;
    println!("chart: in order; {tried} values have an effect");
    Ok(())
}

/// The chart's objects as one YAML stream, with these values beside the default ones.
///
/// # Errors
///
/// The chart or its schema refuses the values: the error has helm's words.
pub(crate) fn render(values: Option<&Path>) -> Result<String> {
    let mut command = helm()?;
    command.args(["template", NAME, CHART, "--namespace", NAME]);
    command.args(["--kube-version", KUBERNETES]);
    if let Some(values) = values {
        command.arg("--values").arg(values);
    }
    let output = command.output().context("start helm")?;
    if !output.status.success() {
        bail!("helm: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("helm's output")
}

fn helm() -> Result<Command> {
    let mut command = Command::new(tools::helm()?);
    command.current_dir(root());
    Ok(command)
}

fn validate(schemas: &Path, what: &str, manifests: &str) -> Result<()> {
    let rendered = target("chart-rendered.yaml");
    fs::write(&rendered, manifests).context("write the rendered chart")?;
    let location = schemas.join("{{.ResourceKind}}{{.KindSuffix}}.json");
    let mut command = Command::new(tools::kubeconform()?);
    command.arg("-strict").arg("-schema-location").arg(location);
    // Its schema is the Prometheus operator's; it comes with no registry that the build uses.
    command.args(["-skip", "monitoring.coreos.com/v1/PodMonitor"]);
    let output = command
        .arg(&rendered)
        .output()
        .context("start kubeconform")?;
    let findings = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "with {what}: {}", findings.trim());
    Ok(())
}

/// Chart, image and agent are of one version.
fn versions_agree() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let places = [
        ("deploy/helm/proxy-agent/Chart.yaml", "appVersion: "),
        ("deploy/helm/proxy-agent/Chart.yaml", "version: "),
        ("deploy/Dockerfile", "ARG VERSION="),
    ];
    for (file, key) in places {
        let text = fs::read_to_string(root().join(file)).with_context(|| format!("read {file}"))?;
        let stated = text.lines().find_map(|line| line.strip_prefix(key));
        ensure!(
            stated == Some(version),
            "{file}: {key}{stated:?} is not {version}"
        );
    }
    Ok(())
}

/// The YAML files of a directory of the chart, sorted.
fn files(directory: &str) -> Result<Vec<PathBuf>> {
    let directory = root().join(CHART).join(directory);
    let entries = fs::read_dir(&directory);
    let entries = entries.with_context(|| format!("read {}", directory.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files = paths.collect::<Result<Vec<_>, _>>()?;
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    ensure!(!files.is_empty(), "{} has no values", directory.display());
    Ok(files)
}
