//! The directory of manifests that the agent's file source reads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A directory of manifests; files appear in it whole, by rename.
#[derive(Debug)]
pub struct ConfigDir {
    path: PathBuf,
}

impl ConfigDir {
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its path: value for `--source file:DIR`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes objects into one file, one JSON document each.
    ///
    /// # Errors
    /// The directory cannot be written, or a file of JSON is to hold several.
    pub fn put(&self, name: &str, objects: &[Value]) -> Result<()> {
        let holds_one = Path::new(name).extension().is_some_and(|end| end == "json");
        ensure!(
            !holds_one || objects.len() == 1,
            "{name} can hold one object alone: several are YAML"
        );
        let documents: Vec<String> = objects.iter().map(|object| format!("{object:#}")).collect();
        let text = match documents.as_slice() {
            [one] => one.clone(),
            // JSON documents in a row are not JSON; in YAML's frame they are YAML.
            many => many.join("\n---\n"),
        };
        self.put_text(name, &text)
    }

    /// Writes a text as it is.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn put_text(&self, name: &str, text: &str) -> Result<()> {
        // Hidden, and without a manifest's extension until it is whole.
        let partial = self.path.join(format!(".{name}.partial"));
        fs::write(&partial, text).with_context(|| format!("write {}", partial.display()))?;
        let whole = self.path.join(name);
        fs::rename(&partial, &whole).with_context(|| format!("write {}", whole.display()))
    }

    /// Takes a file away.
    ///
    /// # Errors
    /// There is no such file.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }

    /// Copies manifests from the repository, e.g. `examples/source-document/istio.yaml`.
    ///
    /// # Errors
    /// There is no such file.
    pub fn copy(&self, repository_path: &str) -> Result<()> {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(repository_path);
        let text = fs::read_to_string(&from).with_context(|| format!("read {}", from.display()))?;
        let name = from
            .file_name()
            .and_then(|name| name.to_str())
            .context("a file's name")?;
        self.put_text(name, &text)
    }
}
