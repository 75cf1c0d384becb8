//! Building programs from Go modules, and finding what else a module holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools;
use crate::workspace::{answer, run};

/// Leaves out the snapshotters that need a file system of their own.
pub(super) const TAGS: &str = "no_btrfs no_zfs no_devmapper";

/// Stands for the package of a folder that is built as a test program.
pub(super) const TEST: &str = "(test)";

/// A Go that is new enough.
pub(super) struct Go {
    program: PathBuf,
}

impl Go {
    /// The machine's, or one that is brought.
    pub(super) fn find() -> Result<Self> {
        Ok(Self {
            program: tools::go()?,
        })
    }

    fn command(&self, source: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(source)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-trimpath -buildvcs=false")
            .env("GOWORK", "off");
        command
    }

    pub(super) fn build(&self, source: &Path, package: &str, program: &Path) -> Result<()> {
        let mut go = self.command(source);
        if package == TEST {
            go.args(["test", "-c", "-o"]).arg(program).arg(".");
        } else {
            go.args(["build", "-tags", TAGS, "-ldflags"])
                .arg(linker_flags(&fs::read_to_string(source.join("go.mod"))?))
                .arg("-o")
                .arg(program)
                .arg(package);
        }
        run(&mut go)
    }

    pub(super) fn module(&self, source: &Path, module: &str) -> Result<PathBuf> {
        let mut go = self.command(source);
        let folder = answer(go.args(["list", "-m", "-f", "{{.Dir}}", module]));
        folder
            .filter(|folder| !folder.is_empty())
            .map(PathBuf::from)
            .with_context(|| format!("the module {module} is not there"))
    }

    pub(super) fn copy_crds(&self, source: &Path, to: &Path) -> Result<()> {
        let module = self.module(source, "sigs.k8s.io/gateway-api")?;
        for channel in ["standard", "experimental"] {
            let from = module.join("config/crd").join(channel);
            let to = to.join(channel);
            fs::create_dir_all(&to)?;
            for file in fs::read_dir(&from).with_context(|| format!("read {}", from.display()))? {
                let file = file?;
                if file.file_name() == "kustomization.yaml" {
                    continue;
                }
                // Read and written: a module's files are read-only, and a copy would be so too.
                fs::write(to.join(file.file_name()), fs::read(file.path())?)?;
            }
        }
        Ok(())
    }
}

/// No debug information, and Kubernetes' own version where it is to be shown.
fn linker_flags(go_mod: &str) -> String {
    let version = go_mod
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    let Some(version) = version.and_then(|rest| rest.split(' ').next()) else {
        return "-s -w".to_owned();
    };
    let (major, rest) = version.split_once('.').unwrap_or((version, ""));
    let minor = rest.split('.').next().unwrap_or_default();
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    [
        "-s -w".to_owned(),
        set("gitVersion", &format!("v{version}")),
        set("gitMajor", major),
        set("gitMinor", minor),
    ]
    .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_is_told_its_version() {
        let flags = linker_flags("require (\n\tk8s.io/kubernetes v1.36.1\n)\n");

        assert!(flags.contains("gitVersion=v1.36.1"), "{flags}");
        assert!(flags.contains("gitMinor=36"), "{flags}");
        assert_eq!(linker_flags("require example.org/x v1.2.3"), "-s -w");
    }
}
