//! A container image out of files: the archive that `docker save` writes and every engine reads.
//!
//! The same files give the same bytes: no times, no owners, entries in order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// What stands at a path of the image.
#[derive(Debug)]
enum Entry {
    /// A copy of this file, with its mode.
    File(PathBuf),
    /// A symbolic link to this.
    Link(String),
}

/// An image of one layer.
#[derive(Debug)]
pub(crate) struct Image {
    names: Vec<String>,
    entrypoint: Vec<String>,
    labels: BTreeMap<String, String>,
    /// By path in the image, without the slash it begins with.
    entries: BTreeMap<String, Entry>,
}

impl Image {
    /// An image without files, with an empty /tmp.
    pub(crate) fn new(name: &str, entrypoint: &[&str]) -> Self {
        Self {
            names: vec![name.to_owned()],
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            labels: BTreeMap::new(),
            entries: BTreeMap::new(),
        }
    }

    /// Gives the image another name.
    pub(crate) fn alias(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// Describes the image.
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a copy of `source`; where that is a link, of what it leads to.
    pub(crate) fn file(self, source: &Path, at: &str) -> Self {
        self.entry(at, Entry::File(source.to_owned()))
    }

    /// Adds a symbolic link.
    pub(crate) fn link(self, to: &str, at: &str) -> Self {
        self.entry(at, Entry::Link(to.to_owned()))
    }

    fn entry(mut self, at: &str, entry: Entry) -> Self {
        let at = at.trim_start_matches('/').to_owned();
        self.entries.insert(at, entry);
        self
    }

    /// Writes the archive.
    pub(crate) fn write(&self, archive: &Path) -> Result<()> {
        let layer = self.layer()?;
        let config = serde_json::to_vec(&self.config(&layer))?;
        let config_name = format!("{}.json", digest(&config));
        let manifest = serde_json::to_vec(&json!([{
            "Config": &config_name,
            "RepoTags": &self.names,
            "Layers": ["layer.tar"],
        }]))?;
        let mut builder = Builder::new(Vec::new());
        for (name, bytes) in [
            (config_name.as_str(), config.as_slice()),
            ("layer.tar", &layer),
            ("manifest.json", &manifest),
        ] {
            append(&mut builder, EntryType::Regular, 0o644, name, bytes)?;
        }
        let bytes = builder.into_inner().context("end the archive")?;
        fs::write(archive, bytes).with_context(|| format!("write {}", archive.display()))
    }

    fn config(&self, layer: &[u8]) -> serde_json::Value {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
                "Labels": self.labels,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))]},
        })
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut builder = Builder::new(Vec::new());
        for folder in self.folders() {
            append(&mut builder, EntryType::Directory, 0o755, &folder, &[])?;
        }
        append(&mut builder, EntryType::Directory, 0o1777, "tmp/", &[])?;
        for (at, entry) in &self.entries {
            match entry {
                Entry::File(source) => {
                    let bytes =
                        fs::read(source).with_context(|| format!("read {}", source.display()))?;
                    let mode = fs::metadata(source)?.permissions().mode() & 0o777;
                    append(&mut builder, EntryType::Regular, mode, at, &bytes)?;
                }
                Entry::Link(to) => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    builder.append_link(&mut header, at, to)?;
                }
            }
        }
        builder.into_inner().context("end the layer")
    }

    /// Every folder that an entry stands in, outer ones first.
    fn folders(&self) -> BTreeSet<String> {
        let parents = self
            .entries
            .keys()
            .flat_map(|at| Path::new(at).ancestors().skip(1));
        let named = parents.filter(|folder| !folder.as_os_str().is_empty());
        named
            .map(|folder| format!("{}/", folder.display()))
            .collect()
    }
}

fn append(
    builder: &mut Builder<Vec<u8>>,
    kind: EntryType,
    mode: u32,
    at: &str,
    bytes: &[u8],
) -> Result<()> {
    let mut header = header(kind, mode, bytes.len() as u64);
    let appended = builder.append_data(&mut header, at, bytes);
    appended.with_context(|| format!("append {at}"))
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(image: &Image, name: &str) -> Vec<u8> {
        let name = format!("image-{}-{name}.tar", std::process::id());
        let path = std::env::temp_dir().join(name);
        image.write(&path).expect("the image is written");
        let bytes = fs::read(&path).expect("it can be read");
        fs::remove_file(&path).expect("it can be removed");
        bytes
    }

    fn image() -> Image {
        Image::new("local/x:1", &["x"]).file(Path::new("/bin/sh"), "/usr/bin/x")
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let labelled = image().label("a", "b");

        assert_eq!(written(&image(), "one"), written(&image(), "two"));
        assert_ne!(written(&image(), "three"), written(&labelled, "four"));
    }

    #[test]
    fn the_config_names_the_layer_that_is_in_the_archive() {
        let bytes = written(&image(), "five");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = BTreeMap::new();
        for entry in archive.entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).expect("its bytes");
            found.insert(path, bytes);
        }
        let manifest: serde_json::Value =
            serde_json::from_slice(&found["manifest.json"]).expect("a manifest");
        let config = manifest[0]["Config"].as_str().expect("a config");
        let config: serde_json::Value = serde_json::from_slice(&found[config]).expect("a config");

        let layer = format!("sha256:{}", digest(&found["layer.tar"]));
        assert_eq!(config["rootfs"]["diff_ids"][0], layer);
        assert_eq!(manifest[0]["RepoTags"][0], "local/x:1");
    }
}
