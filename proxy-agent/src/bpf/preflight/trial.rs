//! Really loading the programs, and really attaching them to an empty cgroup made for it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use proxy_ebpf::bounds;
use tracing::level_filters::LevelFilter;

use super::Check;
use crate::bpf::error::chain;
use crate::bpf::{Error, Kernel, LoadOptions, SelfTestItem};

const LOAD: &str = "load";
const ATTACH: &str = "attach";
const ACCELERATION: &str = "acceleration";

/// All trials.
pub(super) fn run(object: Option<&Path>, cgroup2: Option<&Path>) -> Vec<Check> {
    let options = LoadOptions {
        object: object.map(Path::to_owned),
        log_level: LevelFilter::OFF,
        accelerated: bounds::CREDITS,
    };
    let kernel = match Kernel::load(&options) {
        Ok(kernel) => kernel,
        Err(error) => return vec![Check::gap(LOAD, chain(&error), remedy(&error))],
    };
    let loaded = Check::ok(LOAD, "every program passed the verifier");
    // Without a cgroup2 mount there is nothing to attach to, and a check of its own says so.
    let attached = cgroup2.map(|mount| attach(&kernel, mount));
    let acceleration = acceleration(&kernel);
    [loaded, acceleration].into_iter().chain(attached).collect()
}

/// No gap, however it comes out: connections then go by TCP.
fn acceleration(kernel: &Kernel) -> Check {
    let items = match kernel.self_test() {
        Ok(items) => items,
        Err(error) => {
            return Check::ok(ACCELERATION, format!("not here: {}", chain(error)));
        }
    };
    let refused = items.iter().any(SelfTestItem::is_refusal);
    let results = items.iter().map(|item| match &item.failure {
        None => format!("{} passed", item.name),
        Some(failure) if item.refuses => format!("{} FAILED: {failure}", item.name),
        Some(failure) => format!(
            "{} is not so here, and can be done without: {failure}",
            item.name
        ),
    });
    let results = results.collect::<Vec<_>>().join("; ");
    let verdict = if refused { "not here" } else { "can be used" };
    Check::ok(ACCELERATION, format!("{verdict}; self-test: {results}"))
}

fn remedy(error: &Error) -> &'static str {
    match error {
        Error::NoObject | Error::Read { .. } | Error::OtherObject { .. } => {
            "pass --bpf-object with an object of this version"
        }
        Error::Load { .. }
        | Error::Program { .. }
        | Error::Attach { .. }
        | Error::MapFull { .. }
        | Error::Map { .. } => "see the checks above; seccomp and lockdown can also forbid bpf(2)",
    }
}

fn attach(kernel: &Kernel, mount: &Path) -> Check {
    let trial = match Trial::new(mount) {
        Ok(trial) => trial,
        Err(error) => {
            return Check::ok(ATTACH, format!("not tried: no cgroup can be made: {error}"));
        }
    };
    let remedy = "see CAP_NET_ADMIN above; is attaching to cgroups forbidden by an LSM?";
    let opened = File::open(&trial.0);
    let attached = match opened.map(|dir| kernel.attach(dir.as_fd())) {
        Ok(Ok(())) => kernel.attached(),
        Ok(Err(error)) => return Check::gap(ATTACH, chain(&error), remedy),
        Err(error) => return Check::gap(ATTACH, error.to_string(), remedy),
    };
    kernel.detach();
    let absent = attached.iter().filter(|program| !program.attached);
    let absent: Vec<_> = absent.map(|program| program.name.as_str()).collect();
    if absent.is_empty() {
        return Check::ok(ATTACH, "every program is effective on a cgroup made for it");
    }
    let detail = format!("attached, yet not effective: {}", absent.join(", "));
    Check::gap(ATTACH, detail, "report this with the kernel's version")
}

/// An empty cgroup, removed on drop.
struct Trial(PathBuf);

impl Trial {
    fn new(mount: &Path) -> io::Result<Self> {
        let path = mount.join(format!("proxy-agent-check-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::warn!(cgroup = %self.0.display(), %error, "remove the cgroup of the check");
        }
    }
}
