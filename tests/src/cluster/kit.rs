//! The programs and images that a cluster runs, where `cargo xtask setup --cluster` puts them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A folder of links to what was built for this checkout.
#[derive(Clone, Debug)]
pub(super) struct Kit {
    folder: PathBuf,
}

impl Kit {
    pub(super) fn find() -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/cluster");
        let folder = folder.canonicalize().unwrap_or(folder);
        ensure!(
            folder.join("images").is_dir(),
            "no Kubernetes in {}: run `cargo xtask setup --cluster`",
            folder.display()
        );
        Ok(Self { folder })
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// A search path that begins with the kit's own programs: containerd looks for its shim, and
    /// kubelet for mount.
    pub(super) fn search_path(&self) -> String {
        let own = self.folder.join("bin");
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", own.display())
    }

    /// The archives that every node gets.
    pub(super) fn images(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.folder.join("images")).context("read the images")?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    /// The Gateway API's custom resource definitions of a channel.
    pub(super) fn gateway_api(&self, channel: &str) -> PathBuf {
        self.folder.join("gateway-api-crds").join(channel)
    }
}
