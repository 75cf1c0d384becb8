//! The first file system of a machine: a shell and the modules that its disks need.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::kernel::Kernel;
use crate::workspace::run;

const INIT: &str = include_str!("init.sh");

/// What the disks need. All else is loaded from the root file system when the kernel asks for it.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

/// Writes the archive; `folder` holds what goes into it.
pub(super) fn write(kernel: &Kernel, folder: &Path, archive: &Path) -> Result<()> {
    for part in ["bin", "dev", "modules", "root"] {
        fs::create_dir_all(folder.join(part)).context("make a folder")?;
    }
    let busybox = folder.join("bin/busybox");
    fs::copy("/bin/busybox", busybox).context("copy busybox")?;
    let init = folder.join("init");
    fs::write(&init, INIT).context("write init")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("make it executable")?;
    let index = kernel.modules().join("modules.dep");
    let index = fs::read_to_string(&index).with_context(|| format!("read {index:?}"))?;
    let order = load_order(&index, MODULES);
    let mut names = String::new();
    for path in &order {
        let name = module_name(path);
        unpack(
            &kernel.modules().join(path),
            &folder.join("modules").join(name),
        )?;
        names.push_str(name);
        names.push('\n');
    }
    fs::write(folder.join("modules/order"), names).context("write the order")?;
    let archive = File::create(archive).context("create the archive")?;
    run(Command::new("sh")
        .args(["-ec", "find . | cpio --quiet -o -H newc -R 0:0"])
        .current_dir(folder)
        .stdout(archive))
}

/// The files of modules and of all that they need, in the order of loading. What is not in the
/// index is built into the kernel, or this kernel has no need of it.
fn load_order<'a>(index: &'a str, wanted: &[&str]) -> Vec<&'a str> {
    let mut order = Vec::new();
    for name in wanted {
        let mut lines = index.lines().filter_map(|line| line.split_once(':'));
        let Some((path, needs)) = lines.find(|(path, _)| module_name(path) == *name) else {
            continue;
        };
        // modules.dep(5): a module needs those on its right, which are to be loaded from the last.
        for file in needs.split_whitespace().rev().chain([path]) {
            if !order.contains(&file) {
                order.push(file);
            }
        }
    }
    order
}

/// `ext4` of `kernel/fs/ext4/ext4.ko.xz`.
fn module_name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file)
}

/// Copies a module, without its compression: busybox loads plain ones.
fn unpack(from: &Path, to: &Path) -> Result<()> {
    if from.extension().is_some_and(|extension| extension == "xz") {
        let to = File::create(to).with_context(|| format!("create {}", to.display()))?;
        return run(Command::new("xz").arg("-dc").arg(from).stdout(to));
    }
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_loaded_first_and_once() {
        let index = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\n\
                     kernel/fs/jbd2/jbd2.ko.xz:\n\
                     kernel/lib/crc16.ko.xz:\n";
        let order = load_order(index, &["built_in", "crc16", "ext4"]);
        let names: Vec<_> = order.into_iter().map(module_name).collect();
        assert_eq!(names, ["crc16", "jbd2", "ext4"]);
    }
}
