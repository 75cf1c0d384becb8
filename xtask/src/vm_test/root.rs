//! The root file system of a machine: programs of this host with their libraries, at their own
//! paths, and the tests.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::kernel::file_system;
use super::suites::Built;
use crate::workspace::{answer, root as workspace, run, target};

const GUEST: &str = include_str!("guest.sh");

/// Programs that the tests and the guest's script call; the rest is busybox's.
const PROGRAMS: &[&str] = &[
    "bpftool", "curl", "ip", "modprobe", "nft", "nginx", "python3", "sh", "sleep", "ss", "tc",
    "timeout", "unshare",
];

/// Programs of the workspace that tests start.
const OWN: &[&str] = &["proxy-agent", "e2e-http", "e2e-tcp"];

/// Who root is, and where names come from.
const FILES: &[&str] = &[
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
];

/// Directories that are mounted on, or written to.
const FOLDERS: &[&str] = &[
    "dev",
    "etc",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/lib/modules",
    "var/lib/nginx",
    "var/log/nginx",
    "vm",
];

/// More than what is put in.
const BYTES: u64 = 1200 << 20;

/// Makes the file system `image` out of `folder`, which is filled anew.
pub(super) fn write(tests: &[Built], plan: &str, folder: &Path, image: &Path) -> Result<()> {
    let staging = Staging::begin(folder)?;
    let mut linked = Vec::new();
    for program in PROGRAMS {
        linked.push(staging.program(program)?);
    }
    let python = staging.python()?;
    linked.extend(python);
    for path in OWN.iter().map(|name| target("debug").join(name)) {
        staging.stripped(&path)?;
        linked.push(path);
    }
    for test in tests {
        staging.stripped(&test.program)?;
        linked.push(test.program.clone());
    }
    for library in libraries(&linked)? {
        staging.copy(&library)?;
    }
    for file in FILES.iter().map(Path::new).filter(|file| file.exists()) {
        staging.copy(file)?;
    }
    staging.tree(&workspace().join("tests/fixtures"))?;
    staging.busybox()?;
    staging.script("guest", GUEST)?;
    staging.script("plan", plan)?;
    file_system(folder, image, BYTES)
}

/// The folder that becomes the file system.
struct Staging<'a> {
    folder: &'a Path,
}

impl<'a> Staging<'a> {
    fn begin(folder: &'a Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).context("remove the last file system")?;
        }
        for directory in ["bin", "sbin", "lib", "lib64"] {
            let merged = format!("usr/{directory}");
            fs::create_dir_all(folder.join(&merged)).context("make a folder")?;
            symlink(&merged, folder.join(directory)).context("make a link")?;
        }
        for directory in FOLDERS {
            fs::create_dir_all(folder.join(directory)).context("make a folder")?;
        }
        Ok(Self { folder })
    }

    /// Where a path of this host is in the machine.
    fn at(&self, path: &Path) -> Result<PathBuf> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let at = self.folder.join(relative);
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        Ok(at)
    }

    /// Copies a file, or what a link leads to, to its own path.
    fn copy(&self, path: &Path) -> Result<()> {
        let copied = fs::copy(path, self.at(path)?);
        copied.with_context(|| format!("copy {}", path.display()))?;
        Ok(())
    }

    /// Copies a program that is looked up as a shell does.
    fn program(&self, name: &str) -> Result<PathBuf> {
        let path = find(name).with_context(|| format!("this machine has no {name}"))?;
        self.copy(&path)?;
        Ok(path)
    }

    /// Copies a program of the workspace without its symbols: a debug build is mostly these.
    fn stripped(&self, path: &Path) -> Result<()> {
        run(Command::new("strip")
            .arg("-o")
            .args([&self.at(path)?, path]))
    }

    /// Copies a folder as it is, times included: by these python knows its compiled modules.
    fn tree(&self, path: &Path) -> Result<()> {
        let at = self.at(path)?;
        run(Command::new("cp").arg("--archive").args([path, &at]))
    }

    /// Copies python's own library and the module that tests of gRPC use; returns what of it needs libraries.
    fn python(&self) -> Result<Vec<PathBuf>> {
        let (library, grpc) = (module("os")?, module("grpc")?);
        let mut linked = Vec::new();
        for (tree, compiled) in [(library, "lib-dynload"), (grpc, "_cython")] {
            self.tree(&tree)?;
            let entries = fs::read_dir(tree.join(compiled)).context("read python's modules")?;
            for entry in entries {
                let path = entry?.path();
                linked.extend(
                    path.extension()
                        .is_some_and(|it| it == "so")
                        .then_some(path),
                );
            }
        }
        Ok(linked)
    }

    /// Puts busybox where the host's own programs are not.
    fn busybox(&self) -> Result<()> {
        let busybox = Path::new("/bin/busybox");
        self.copy(busybox)?;
        let names = answer(Command::new(busybox).arg("--list")).context("busybox does not run")?;
        for name in names.lines() {
            let there = ["usr/bin", "usr/sbin"].map(|folder| self.folder.join(folder).join(name));
            if there.iter().all(|path| !path.exists()) {
                symlink("/usr/bin/busybox", &there[0]).context("make a link")?;
            }
        }
        Ok(())
    }

    fn script(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join("vm").join(name);
        fs::write(&path, text).with_context(|| format!("write {name}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("make it executable")
    }
}

/// The folder of a module of python.
fn module(name: &str) -> Result<PathBuf> {
    let script = format!("import os, {name}; print(os.path.dirname({name}.__file__))");
    let folder = answer(Command::new("/usr/bin/python3").args(["-c", &script]));
    let folder = folder.with_context(|| format!("python3 has no module {name}"))?;
    Ok(PathBuf::from(folder))
}

fn find(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    paths.find(|path| path.is_file())
}

/// The shared libraries of programs, the loader among them, as ldd(1) finds them here.
fn libraries(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for program in programs {
        // A static program has none, and ldd fails.
        let Some(listing) = answer(Command::new("ldd").arg::<&OsStr>(program.as_ref())) else {
            continue;
        };
        for line in listing.lines() {
            if let Some(path) = library(line) {
                found.insert(PathBuf::from(path));
            } else if line.contains("not found") {
                anyhow::bail!("{}: {}", program.display(), line.trim());
            }
        }
    }
    Ok(found)
}

/// The path in a line of ldd's answer.
fn library(line: &str) -> Option<&str> {
    let place = line.split_once("=>").map_or(line, |(_, place)| place);
    let path = place.trim().split(' ').next()?;
    path.starts_with('/').then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let found = library("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)");
        assert_eq!(found, Some("/lib/x86_64-linux-gnu/libc.so.6"));
        let loader = library("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)");
        assert_eq!(loader, Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007ffd)"), None);
        assert_eq!(library("\tlibx.so.1 => not found"), None);
    }
}
