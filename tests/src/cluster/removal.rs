//! Taking a cluster away, or what a failed start left of one.
//!
//! Everything that a cluster makes bears its name or is in its folder, so that nothing need be
//! remembered.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::groups::Groups;
use super::home::Home;

/// Ends every process, then removes cgroups, network namespaces and files.
pub(super) fn remove(home: &Home) -> Result<()> {
    let groups = Groups::of_machine(home.name()?)?;
    groups.kill()?;
    groups.remove()?;
    for name in namespaces(home)? {
        let deleted = Command::new("ip").args(["netns", "del", &name]).status();
        ensure!(
            deleted.context("run ip")?.success(),
            "ip netns del {name} failed"
        );
    }
    match fs::remove_dir_all(home.folder()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", home.folder().display()))
        }
        _ => Ok(()),
    }
}

fn namespaces(home: &Home) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(Path::new("/run/netns")) else {
        return Ok(Vec::new());
    };
    let own = format!("{}-", home.name()?);
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // `one-node1` is `one`'s, `one-more-node1` is not.
    let is_own = |name: &String| {
        name.strip_prefix(&own)
            .is_some_and(|rest| rest == "lan" || rest.starts_with("node"))
    };
    Ok(names.filter(is_own).collect())
}
