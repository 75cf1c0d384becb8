//! `cargo xtask manifests`: deploy/manifests, for `kubectl apply -k`, rendered from the chart with its
//! default values. Nobody edits them; `--check` finds that somebody did, or forgot to render.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::chart;
use crate::workspace::root;

const HEADER: &str =
    "# Rendered from deploy/helm/proxy-agent by `cargo xtask manifests`; do not edit.\n";

/// What helm makes by `--create-namespace`; the label is what pods with host paths need where Pod
/// Security is enforced.
const NAMESPACE: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: proxy-agent
  labels:
    pod-security.kubernetes.io/enforce: privileged
";

/// `cargo xtask manifests`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Writes nothing, and fails if something would be written.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let wanted = files(&chart::render(None)?)?;
    let present = present()?;
    if args.check {
        return check(&wanted, &present);
    }
    fs::create_dir_all(directory()).context("make deploy/manifests")?;
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        fs::remove_file(directory().join(name)).with_context(|| format!("remove {name}"))?;
    }
    for (name, text) in &wanted {
        fs::write(directory().join(name), text).with_context(|| format!("write {name}"))?;
    }
    println!("manifests: {} files in deploy/manifests", wanted.len());
    Ok(())
}

type Files = BTreeMap<String, String>;

fn check(wanted: &Files, present: &Files) -> Result<()> {
    let names = wanted.keys().chain(present.keys());
    let mut drifted: Vec<_> = names
        .filter(|name| wanted.get(*name) != present.get(*name))
        .map(String::as_str)
        .collect();
    drifted.dedup();
    if !drifted.is_empty() {
        let drifted = drifted.join(", ");
        bail!(
            "deploy/manifests is not what the chart renders, in {drifted}: cargo xtask manifests"
        );
    }
    Ok(())
}

fn directory() -> PathBuf {
    root().join("deploy/manifests")
}

fn present() -> Result<Files> {
    if !directory().exists() {
        return Ok(Files::new());
    }
    let mut files = Files::new();
    for entry in fs::read_dir(directory()).context("read deploy/manifests")? {
        let path = entry?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default();
        files.insert(name.to_string_lossy().into_owned(), text);
    }
    Ok(files)
}

/// One file for each template of the chart, the namespace, and what names them all.
fn files(rendered: &str) -> Result<Files> {
    let mut files = Files::from([("namespace.yaml".to_owned(), format!("{HEADER}{NAMESPACE}"))]);
    for document in rendered
        .split("---\n")
        .filter(|text| !text.trim().is_empty())
    {
        let (source, object) = document
            .strip_prefix("# Source: ")
            .and_then(|document| document.split_once('\n'))
            .context("helm says from which template an object is")?;
        let name = source.rsplit('/').next().unwrap_or(source).to_owned();
        let file = files.entry(name).or_insert_with(|| HEADER.to_owned());
        if file.len() > HEADER.len() {
            file.push_str("---\n");
        }
        file.push_str(object.trim_end());
        file.push('\n');
    }
    let names: String = files.keys().map(|name| format!("  - {name}\n")).collect();
    let kinds = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n";
    files.insert(
        "kustomization.yaml".to_owned(),
        format!("{HEADER}{kinds}{names}"),
    );
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENDERED: &str = "\
---
# Source: proxy-agent/templates/rbac.yaml
kind: Role
---
# Source: proxy-agent/templates/rbac.yaml
kind: RoleBinding

---
# Source: proxy-agent/templates/daemonset.yaml
kind: DaemonSet
";

    #[test]
    fn objects_of_one_template_are_one_file() {
        let files = files(RENDERED).unwrap();
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        let expected = [
            "daemonset.yaml",
            "kustomization.yaml",
            "namespace.yaml",
            "rbac.yaml",
        ];
        assert_eq!(names, expected);
        let rbac = format!("{HEADER}kind: Role\n---\nkind: RoleBinding\n");
        assert_eq!(files["rbac.yaml"], rbac);
        assert!(
            files["kustomization.yaml"]
                .ends_with("  - daemonset.yaml\n  - namespace.yaml\n  - rbac.yaml\n")
        );
    }

    #[test]
    fn drift_is_named() {
        let wanted = files(RENDERED).unwrap();
        assert!(check(&wanted, &wanted.clone()).is_ok());
        let mut edited = wanted.clone();
        edited.insert("rbac.yaml".to_owned(), "kind: Role\n".to_owned());
        edited.insert("left-over.yaml".to_owned(), String::new());
        let error = check(&wanted, &edited).unwrap_err().to_string();
        assert!(
            error.contains("rbac.yaml") && error.contains("left-over.yaml"),
            "{error}"
        );
        assert!(!error.contains("daemonset.yaml"), "{error}");
    }
}
