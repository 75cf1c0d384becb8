//! Nodes whose pods' cgroups are made by systemd.
//!
//! It is the first process of a process namespace of its own, as it can be of no other. containerd and
//! kubelet are in that namespace too: they name processes to it by number.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::node::{Node, PATIENCE};
use crate::wait::until_some_within;

impl Node {
    /// Nodes use kubelet's two cgroup drivers by turns.
    pub(super) fn cgroup_driver(&self) -> &'static str {
        if self.has_systemd() {
            "systemd"
        } else {
            "cgroupfs"
        }
    }

    pub(super) fn has_systemd(&self) -> bool {
        self.number().is_multiple_of(2)
    }

    /// Starts it where there is to be one.
    pub(super) fn start_systemd(&self) -> Result<()> {
        if !self.has_systemd() {
            return Ok(());
        }
        let mut script = Command::new("sh");
        script
            .arg("-c")
            .arg(include_str!("../../cluster/node/systemd.sh"))
            .arg("systemd")
            .arg(self.folder());
        self.start("systemd", script)?;
        let what = format!("systemd can be asked on {}", self.name());
        until_some_within(PATIENCE, &what, || Ok(self.systemd())).map(drop)
    }

    /// A command that will run in the namespace of systemd's processes, if there is one.
    pub(super) fn beside_systemd(&self, command: Command) -> Result<Command> {
        if !self.has_systemd() {
            return Ok(command);
        }
        let systemd = self.systemd();
        let systemd = systemd.with_context(|| format!("no systemd on {}", self.name()))?;
        let mut nsenter = Command::new("nsenter");
        nsenter
            .arg(format!("--target={systemd}"))
            .args(["--pid", "--mount", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        Ok(nsenter)
    }

    /// Its process, once it listens.
    fn systemd(&self) -> Option<u32> {
        let is_systemd = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            let socket = PathBuf::from(format!("/proc/{pid}/root/run/systemd/private"));
            name.is_ok_and(|name| name.trim_end() == "systemd") && socket.exists()
        };
        let processes = self.groups().child("init.scope").processes();
        processes.into_iter().find(is_systemd)
    }
}
