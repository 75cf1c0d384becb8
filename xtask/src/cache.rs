//! What is fetched or built once for a machine and kept in the user's cache folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A folder of the project's cache, or what the environment `variable` names instead.
pub(crate) fn folder(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(folder) = env::var_os(variable) {
        return Ok(PathBuf::from(folder));
    }
    let user = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let user = user.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let Some(user) = user else {
        bail!("no HOME and no XDG_CACHE_HOME: set {variable} to a folder of several GiB");
    };
    Ok(user.join("proxy-agent").join(name))
}

/// Fills a folder of the cache unless it is there; an attempt that failed leaves none.
pub(crate) fn once(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut building = folder.as_os_str().to_owned();
    building.push(format!(".building-{}", std::process::id()));
    let building = PathBuf::from(building);
    fs::create_dir_all(&building).with_context(|| format!("create {}", building.display()))?;
    let filled = fill(&building).and_then(|()| {
        // Another run may have been quicker: its folder is as good.
        fs::rename(&building, folder).or_else(|error| {
            let there = folder.is_dir();
            there.then_some(()).ok_or(error).context("name the folder")
        })
    });
    if building.exists() {
        fs::remove_dir_all(&building).context("remove what was built")?;
    }
    filled
}
