//! `cargo xtask setup --cluster`: the programs and images of a test cluster, built from their Go
//! modules.
//!
//! Every folder of tests/cluster/go is one part: its go.mod says which version, its go.sum which
//! bytes. A part is built once per machine into a folder of the cache that is named after all that
//! goes into it; target/cluster links to what this checkout uses. It starts nothing.

mod go;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use go::{Go, TAGS, TEST};

use super::apt;
use crate::cache;
use crate::image::Image;
use crate::tools;
use crate::workspace::{root, target};

/// Where parts are kept, if not in the user's cache folder.
const CACHE: &str = "PROXY_AGENT_CLUSTER_CACHE";

/// What nodes run besides.
const DEBIAN: &[&str] = &[
    "busybox-static",
    "conntrack",
    "containernetworking-plugins",
    "iproute2",
    "nftables",
    "openssl",
    "runc",
    "systemd",
];

/// Changes when the same modules give other files.
const LAYOUT: u32 = 2;

/// Other checkouts may use an older version of a part: their folders go after this long.
const UNUSED: Duration = Duration::from_secs(7 * 24 * 3_600);

/// One folder of tests/cluster/go.
struct Part {
    name: &'static str,
    /// Names of the programs, and the packages that they are built from.
    programs: &'static [(&'static str, &'static str)],
    /// Roughly, on two cores, when nothing of it was ever built.
    minutes: u32,
}

const PARTS: &[Part] = &[
    Part {
        name: "kubernetes",
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            (
                "kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
            ),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
            ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
        minutes: 5,
    },
    Part {
        name: "etcd",
        programs: &[("etcd", "go.etcd.io/etcd/server/v3")],
        minutes: 1,
    },
    Part {
        name: "containerd",
        programs: &[
            (
                "containerd",
                "github.com/containerd/containerd/v2/cmd/containerd",
            ),
            (
                "containerd-shim-runc-v2",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            ),
            ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
        ],
        minutes: 1,
    },
    Part {
        name: "coredns",
        programs: &[("coredns", "github.com/coredns/coredns")],
        minutes: 2,
    },
    Part {
        name: "gateway-api",
        programs: &[("conformance.test", TEST)],
        minutes: 1,
    },
    Part {
        name: "echo",
        programs: &[("echo", ".")],
        minutes: 1,
    },
];

/// Brings what `cargo xtask cluster` needs.
pub(super) fn run_all() -> Result<()> {
    apt(DEBIAN)?;
    let go = Go::find()?;
    let cache = cache::folder("cluster", CACHE)?;
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let links = target("cluster");
    fs::create_dir_all(links.join("bin")).context("create target/cluster")?;
    let mut stamps = Vec::new();
    for part in PARTS {
        let folder = part.bring(&go, &cache)?;
        for (program, _) in part.programs {
            link(&folder.join(program), &links.join("bin").join(program))?;
        }
        if part.name == "gateway-api" {
            link(&folder.join("crds"), &links.join("gateway-api-crds"))?;
        }
        stamps.push(folder);
    }
    link(&tools::helm()?, &links.join("bin/helm"))?;
    link(
        &images(&go, &cache, &links, &stamps)?,
        &links.join("images"),
    )?;
    println!("setup: the cluster's programs are in {}", cache.display());
    Ok(())
}

impl Part {
    /// The folder with the part's programs; built if it is not there.
    fn bring(&self, go: &Go, cache: &Path) -> Result<PathBuf> {
        let source = root().join("tests/cluster/go").join(self.name);
        let folder = cache.join(format!("{}-{}", self.name, self.stamp(&source)?));
        once(&folder, |building| {
            println!(
                "setup: building {} from its Go modules (about {} min the first time)",
                self.name, self.minutes
            );
            let begun = Instant::now();
            for (program, package) in self.programs {
                go.build(&source, package, &building.join(program))?;
            }
            if self.name == "gateway-api" {
                go.copy_crds(&source, &building.join("crds"))?;
            }
            println!("setup: built {} in {:.0?}", self.name, begun.elapsed());
            Ok(())
        })?;
        Ok(folder)
    }

    /// Changes with everything that goes into the part.
    fn stamp(&self, source: &Path) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!("{LAYOUT} {:?} {TAGS}", self.programs));
        let entries = fs::read_dir(source).with_context(|| format!("read {}", source.display()))?;
        let mut files = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        files.sort();
        for file in files {
            hash.update(fs::read(&file).with_context(|| format!("read {}", file.display()))?);
        }
        Ok(short(hash))
    }
}

/// The folder with the images that every node gets.
fn images(go: &Go, cache: &Path, links: &Path, stamps: &[PathBuf]) -> Result<PathBuf> {
    let images = [
        Image::new("local/coredns:1", &["/coredns"]).file(&links.join("bin/coredns"), "/coredns"),
        Image::new("local/echo:1", &["server"])
            .alias(&conformance_image(go)?)
            .file(&links.join("bin/echo"), "/usr/local/bin/server")
            .link("server", "/usr/local/bin/client"),
        // Keeps a pod's namespaces: waits, and ends when it is told to.
        Image::new("local/pause:1", &["/bin/busybox", "sleep", "infinity"])
            .file(Path::new("/bin/busybox"), "/bin/busybox"),
        Image::new("local/busybox:1", &["/bin/busybox"])
            .file(Path::new("/bin/busybox"), "/bin/busybox")
            .link("busybox", "/bin/sh"),
    ];
    let mut hash = Sha256::new();
    // The same for every checkout: what the links lead to is in the stamps.
    let recipe = format!("{images:?}").replace(&links.display().to_string(), "");
    hash.update(format!("{recipe} {stamps:?}"));
    let folder = cache.join(format!("images-{}", short(hash)));
    once(&folder, |building| {
        println!("setup: writing the cluster's images");
        for (number, image) in images.iter().enumerate() {
            image.write(&building.join(format!("{number}.tar")))?;
        }
        Ok(())
    })?;
    Ok(folder)
}

/// The image that the conformance suite's manifests ask for; nobody pulls it.
fn conformance_image(go: &Go) -> Result<String> {
    let source = root().join("tests/cluster/go/gateway-api");
    let module = go.module(&source, "sigs.k8s.io/gateway-api/conformance")?;
    let manifests = fs::read_to_string(module.join("mesh/manifests.yaml"))
        .context("read the suite's manifests")?;
    manifests
        .lines()
        .find_map(|line| line.trim().strip_prefix("image: "))
        .map(str::to_owned)
        .context("the suite's manifests name no image")
}

/// Fills a folder of the cache unless it is there. A folder that was filled takes the place of those of
/// its part that nobody has used for [`UNUSED`].
fn once(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.is_dir() {
        return touch(folder);
    }
    cache::once(folder, fill)?;
    remove_unused(folder)
}

/// Notes that a folder of the cache is used.
fn touch(folder: &Path) -> Result<()> {
    let opened = File::open(folder).with_context(|| format!("open {}", folder.display()))?;
    let touched = opened.set_modified(SystemTime::now());
    touched.with_context(|| format!("touch {}", folder.display()))
}

/// Removes the former folders of the part that this one belongs to.
fn remove_unused(folder: &Path) -> Result<()> {
    let name = folder.file_name().and_then(|name| name.to_str());
    let part = name.and_then(|name| name.rsplit_once('-'));
    let ((part, _), cache) = part.zip(folder.parent()).context("a folder of the cache")?;
    for entry in fs::read_dir(cache)?.flatten() {
        let other = entry.file_name();
        let other = other.to_str().and_then(|name| name.rsplit_once('-'));
        let of_part = other.is_some_and(|(other, _)| other == part);
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if of_part && age > UNUSED {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Makes a link, unless it is there: a running cluster may be about to follow it.
fn link(to: &Path, at: &Path) -> Result<()> {
    match fs::read_link(at) {
        Ok(before) if before == to => return Ok(()),
        Ok(_) => fs::remove_file(at).with_context(|| format!("remove {}", at.display()))?,
        Err(_) => {}
    }
    symlink(to, at).with_context(|| format!("link {} to {}", at.display(), to.display()))
}

fn short(hash: Sha256) -> String {
    let digest = hash.finalize();
    digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
