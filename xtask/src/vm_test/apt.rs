//! An apt of its own, for packages of other releases than the machine's: nothing is installed, and
//! the machine's own lists and sources stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{answer, run};

/// Releases that hold kernels: 6.1, 6.12, and what is newer.
const SUITES: &[&str] = &["bookworm", "trixie", "trixie-backports"];

/// What Debian signs its releases with, from the machine's own debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The Debian mirror that this machine's apt uses; `None` if it is no Debian.
pub(super) fn mirror() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        let mut lines = release.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.map(|value| value.trim_matches('"').to_owned())
    };
    let codename = (field("ID")? == "debian").then(|| field("VERSION_CODENAME"))??;
    let format = "$(RELEASE) $(COMPONENT) $(REPO_URI)";
    let targets = answer(Command::new("apt-get").args(["indextargets", "--format", format]))?;
    find_mirror(&targets, &codename)
}

/// The first repository in apt's answer that holds the main part of a release.
fn find_mirror(targets: &str, codename: &str) -> Option<String> {
    let main = format!("{codename} main ");
    let mut lines = targets.lines();
    lines.find_map(|line| line.strip_prefix(&main).map(str::to_owned))
}

/// Lists and packages in a folder of their own.
pub(super) struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    /// Fetches the lists of [`SUITES`].
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let Some(mirror) = mirror() else {
            bail!("apt's configuration names no Debian mirror");
        };
        for part in ["lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(folder.join(part)).context("make apt's folder")?;
        }
        let sources = SUITES
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"));
        fs::write(folder.join("sources.list"), sources.collect::<String>())?;
        fs::write(folder.join("status"), "")?;
        let apt = Self {
            folder: folder.to_owned(),
        };
        run(apt.command("apt-get").args(["-qq", "update"]))?;
        Ok(apt)
    }

    /// Names of packages that begin so.
    pub(super) fn names(&self, beginning: &str) -> Result<Vec<String>> {
        let names = answer(self.command("apt-cache").args(["pkgnames", beginning]));
        let names = names.context("apt-cache pkgnames failed")?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Unpacks a package, and those that it depends on whose names begin so.
    pub(super) fn unpack(&self, package: &str, parts: &[&str], into: &Path) -> Result<()> {
        let depends = answer(self.command("apt-cache").args(["depends", package]));
        let depends = depends.context("apt-cache depends failed")?;
        let depends = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .filter(|name| parts.iter().any(|part| name.starts_with(part)));
        let packages = self.folder.join("packages");
        run(self
            .command("apt-get")
            .args(["-qq", "download", package])
            .args(depends)
            .current_dir(&packages))?;
        let mut found = 0;
        for entry in fs::read_dir(&packages).context("read what apt fetched")? {
            run(Command::new("dpkg-deb")
                .arg("--extract")
                .args([&entry?.path(), into]))?;
            found += 1;
        }
        ensure!(found > 0, "apt-get download brought nothing of {package}");
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |part: &str| self.folder.join(part).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            "APT::Architecture=amd64".to_owned(),
            // The folder is the user's own: apt's user could not read it.
            "APT::Sandbox::User=".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_release_itself() {
        let targets = "stable main https://tools.example/apt/\n\
                       bookworm-security main http://mirror.example/debian-security/\n\
                       bookworm main http://mirror.example/debian/\n";
        let found = find_mirror(targets, "bookworm");
        assert_eq!(found.as_deref(), Some("http://mirror.example/debian/"));
        assert_eq!(find_mirror(targets, "trixie"), None);
    }
}
