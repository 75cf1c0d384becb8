//! Debian's stock kernels: found, fetched, unpacked, kept in the user's cache.
//!
//! Nothing is installed. A kernel stays the one that was fetched first until its folder is removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::PrivateApt;
use crate::cache;
use crate::workspace::run;

/// Where kernels are kept, if not in the user's cache folder.
const CACHE: &str = "PROXY_AGENT_KERNEL_CACHE";

/// What a kernel's packages are called: of the flavour for virtual machines.
const IMAGE: &str = "linux-image-";
const FLAVOUR: &str = "-cloud-amd64";

/// What else holds parts of a kernel, from 6.19 on.
const PARTS: &[&str] = &["linux-base-", "linux-binary-", "linux-modules-"];

/// Room for the modules, the file system's own needs included.
const MODULES_BYTES: u64 = 400 << 20;

/// Which of Debian's kernels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Series {
    /// The highest of a series.
    Of(&'static str),
    /// The highest of all.
    Newest,
}

/// Every kernel of the matrix; the first is the floor.
pub(super) const MATRIX: &[Series] = &[
    Series::Of("6.1"),
    Series::Of("6.12"),
    Series::Of("6.18"),
    Series::Newest,
];

impl Series {
    /// As in `--kernel`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Of(series) => series,
            Self::Newest => "newest",
        }
    }

    /// The package of the highest version among `names`.
    fn choose(self, names: &[String]) -> Option<&str> {
        let versions = names.iter().filter_map(|name| {
            let release = name.strip_prefix(IMAGE)?.strip_suffix(FLAVOUR)?;
            let of_series = match self {
                Self::Of(series) => release.strip_prefix(series)?.starts_with('.'),
                Self::Newest => true,
            };
            let version = numbers(release);
            (of_series && !version.is_empty()).then_some((version, name.as_str()))
        });
        versions.max().map(|(_, name)| name)
    }
}

/// The numbers of a release that begins with one.
fn numbers(release: &str) -> Vec<u32> {
    if !release.starts_with(|first: char| first.is_ascii_digit()) {
        return Vec::new();
    }
    let words = release.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).collect()
}

/// A kernel that can be booted.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As in `--kernel`.
    pub(super) name: &'static str,
    /// As `uname -r` will say.
    pub(super) release: String,
    folder: PathBuf,
}

impl Kernel {
    /// The kernel of a series, fetched if it never was.
    pub(super) fn bring(series: Series) -> Result<Self> {
        let name = series.name();
        let cache = cache::folder("kernels", CACHE)?;
        let folder = cache.join(name);
        cache::once(&folder, |building| fetch(series, building))?;
        let release = only_entry(&folder.join("modules"))?;
        Ok(Self {
            name,
            release,
            folder,
        })
    }

    /// The kernel itself.
    pub(super) fn vmlinuz(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Its modules: what stands in /lib/modules/RELEASE.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("modules").join(&self.release)
    }

    /// A file system with what stands in /lib/modules.
    pub(super) fn modules_image(&self) -> PathBuf {
        self.folder.join("modules.ext4")
    }
}

fn fetch(series: Series, folder: &Path) -> Result<()> {
    let apt = PrivateApt::open(&folder.join("apt"))?;
    let names = apt.names(IMAGE)?;
    let package = series.choose(&names);
    let package = package.with_context(|| format!("Debian has no kernel {} now", series.name()))?;
    println!("vm-test: fetching {package}");
    let root = folder.join("root");
    fs::create_dir(&root).context("make a folder")?;
    apt.unpack(package, PARTS, &root)?;
    // Where /lib is a link to /usr/lib, newer packages know it.
    let lib = ["usr/lib/modules", "lib/modules"].map(|path| root.join(path));
    let modules = lib.iter().find(|path| path.is_dir());
    let modules = modules.with_context(|| format!("{package} holds no modules"))?;
    let release = only_entry(modules)?;
    // From 6.19 on the kernel is beside its modules.
    let places = [
        root.join(format!("boot/vmlinuz-{release}")),
        modules.join(&release).join("vmlinuz"),
    ];
    let vmlinuz = places.iter().find(|path| path.is_file());
    let vmlinuz = vmlinuz.with_context(|| format!("{package} holds no kernel"))?;
    fs::rename(vmlinuz, folder.join("vmlinuz")).context("keep the kernel")?;
    fs::rename(modules, folder.join("modules")).context("keep the modules")?;
    index(folder, &release)?;
    for rest in ["apt", "root"] {
        fs::remove_dir_all(folder.join(rest)).context("remove what is not needed")?;
    }
    Ok(())
}

/// Writes what modprobe reads, and the file system.
fn index(folder: &Path, release: &str) -> Result<()> {
    // depmod looks below lib/modules of the folder that it is given.
    let lib = folder.join("root/index/lib");
    fs::create_dir_all(&lib).context("make a folder")?;
    std::os::unix::fs::symlink(folder.join("modules"), lib.join("modules"))
        .context("link the modules")?;
    run(Command::new("depmod")
        .arg("--basedir")
        .arg(folder.join("root/index"))
        .arg(release))?;
    file_system(
        &folder.join("modules"),
        &folder.join("modules.ext4"),
        MODULES_BYTES,
    )
}

/// Makes a file system of a folder; the file is sparse.
pub(super) fn file_system(folder: &Path, image: &Path, bytes: u64) -> Result<()> {
    let file = File::create(image).with_context(|| format!("create {}", image.display()))?;
    file.set_len(bytes).context("give the image its size")?;
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-O", "^has_journal", "-m", "0"])
        .args(["-E", "root_owner=0:0,lazy_itable_init=1"])
        .arg("-d")
        .args([folder, image]))
}

fn only_entry(folder: &Path) -> Result<String> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let entry = entries.last().context("the package holds no modules")??;
    let name = entry.file_name().into_string().ok();
    name.context("a name in UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_a_series_is_chosen() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.12.94+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.12.200+deb13-amd64",
            "linux-image-cloud-amd64",
        ]
        .map(str::to_owned);
        let chosen = |series: Series| series.choose(&names);
        assert_eq!(
            chosen(Series::Of("6.1")),
            Some("linux-image-6.1.0-50-cloud-amd64")
        );
        let newest = Some("linux-image-6.12.107+deb13-cloud-amd64");
        assert_eq!(chosen(Series::Of("6.12")), newest);
        assert_eq!(chosen(Series::Newest), newest);
        assert_eq!(chosen(Series::Of("6.18")), None);
    }
}
