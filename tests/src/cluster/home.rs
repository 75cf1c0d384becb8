//! Where a cluster keeps its files, and the templates that its programs read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder of one cluster. Its last part names the cluster's cgroups and network namespaces.
#[derive(Clone, Debug)]
pub(super) struct Home {
    folder: PathBuf,
}

impl Home {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn name(&self) -> Result<&str> {
        let name = self.folder.file_name().and_then(|name| name.to_str());
        name.with_context(|| format!("{} has no name", self.folder.display()))
    }

    pub(super) fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    pub(super) fn node(&self, number: u8) -> PathBuf {
        self.folder.join(format!("node{number}"))
    }

    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// The network between the nodes.
    pub(super) fn lan(&self) -> Result<String> {
        Ok(format!("{}-lan", self.name()?))
    }

    pub(super) fn netns(&self, number: u8) -> Result<String> {
        Ok(format!("{}-node{number}", self.name()?))
    }

    /// A template with its places filled in; `more` are those beyond the cluster's own.
    pub(super) fn fill(&self, template: &str, more: &[(&str, &str)]) -> String {
        let own = [
            ("@STATE@", self.folder.display().to_string()),
            ("@PKI@", self.pki().display().to_string()),
        ];
        let own = own.iter().map(|(place, value)| (*place, value.as_str()));
        own.chain(more.iter().copied())
            .fold(template.to_owned(), |text, (place, value)| {
                text.replace(place, value)
            })
    }

    /// The flags of a template: one a line, comments left out.
    pub(super) fn flags(&self, template: &str) -> Vec<String> {
        let text = self.fill(template, &[]);
        let flags = text.lines().filter(|line| line.starts_with("--"));
        flags.map(str::to_owned).collect()
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_and_their_comments_are_no_flags() {
        let home = Home::new(Path::new("/tmp/x"));

        let flags = home.flags("# why\n--data=@STATE@/etcd\n--cert=@PKI@/ca.crt\n");

        assert_eq!(flags, ["--data=/tmp/x/etcd", "--cert=/tmp/x/pki/ca.crt"]);
        assert_eq!(home.fill("node@NUMBER@", &[("@NUMBER@", "2")]), "node2");
    }

    #[test]
    fn names_are_those_of_the_folder() {
        let home = Home::new(Path::new("/tmp/one"));

        assert_eq!(home.netns(2).ok().as_deref(), Some("one-node2"));
        assert!(Home::new(Path::new("/")).name().is_err());
    }
}
