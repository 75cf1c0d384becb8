//! One node: a network, a mount and a cgroup namespace, in which containerd, kube-proxy and kubelet
//! run as they do on a machine.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::unistd::setsid;

use super::access::{self, User};
use super::groups::Groups;
use super::home::{self, Home};
use super::kit::Kit;
use crate::netns::Netns;
use crate::wait::until_some_within;

/// How long a part of a node may take to come up on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// A node by its number, from 1.
#[derive(Clone, Debug)]
pub(super) struct Node {
    number: u8,
    home: Home,
    kit: Kit,
    groups: Groups,
}

impl Node {
    pub(super) fn new(home: &Home, kit: &Kit, number: u8) -> Result<Self> {
        let groups = Groups::of_machine(home.name()?)?.child(&format!("node{number}"));
        Ok(Self {
            number,
            home: home.clone(),
            kit: kit.clone(),
            groups,
        })
    }

    /// Makes its namespaces, connects them to the others' network and writes what its programs read.
    pub(super) fn make(&self) -> Result<()> {
        self.groups.make()?;
        for parent in [&Groups::of_machine(self.home.name()?)?, &self.groups] {
            parent.enable_controllers()?;
        }
        self.connect()?;
        self.write_files()?;
        access::admit(
            &self.home,
            User {
                file: &self.name(),
                name: &format!("system:node:{}", self.name()),
                group: "system:nodes",
            },
        )?;
        self.start_init()
    }

    /// Sends what is for another node's pods there.
    pub(super) fn route_pods_of(&self, other: u8) -> Result<()> {
        let route = format!("route add 10.244.{other}.0/24 via 10.99.0.{other}");
        self.netns()?.ip(&[route])
    }

    pub(super) fn start_containerd(&self) -> Result<()> {
        let config = self.folder().join("containerd.toml");
        let mut containerd = self.program("containerd");
        containerd.arg("--config").arg(config);
        let containerd = self.beside_systemd(containerd)?;
        self.start("containerd", containerd)
    }

    pub(super) fn wait_containerd(&self) -> Result<()> {
        let what = format!("containerd answers on {}", self.name());
        until_some_within(PATIENCE, &what, || {
            let output = self.ctr(&["version"])?.output().context("run ctr")?;
            Ok(output.status.success().then_some(()))
        })
    }

    pub(super) fn start_kube_proxy(&self) -> Result<()> {
        let mut flag = std::ffi::OsString::from("--config=");
        flag.push(self.folder().join("kube-proxy.yaml"));
        let mut kube_proxy = self.program("kube-proxy");
        kube_proxy.arg(flag);
        self.start("kube-proxy", kube_proxy)
    }

    pub(super) fn start_kubelet(&self) -> Result<()> {
        let folder = self.folder();
        let mut kubelet = self.program("kubelet");
        kubelet
            .arg("--config")
            .arg(folder.join("kubelet.yaml"))
            .arg("--kubeconfig")
            .arg(self.home.kubeconfig(&self.name()))
            .arg("--root-dir")
            .arg(folder.join("kubelet"))
            .arg(format!("--hostname-override={}", self.name()))
            .arg(format!("--node-ip=10.99.0.{}", self.number))
            .arg(format!(
                "--node-labels=topology.kubernetes.io/zone={}",
                self.zone()
            ));
        let kubelet = self.beside_systemd(kubelet)?;
        self.start("kubelet", kubelet)
    }

    /// Gives an image archive to the node.
    pub(super) fn load(&self, archive: &Path) -> Result<()> {
        let mut ctr = self.ctr(&["--namespace", "k8s.io", "images", "import"])?;
        let output = ctr.arg(archive).output().context("run ctr")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "load {}: {complaint}",
            archive.display()
        );
        Ok(())
    }

    /// A command that will run inside the node's cgroup and namespaces.
    pub(super) fn enter(&self, command: Command) -> Result<Command> {
        self.place(command, "commands", Detached::No)
    }

    /// Starts one of the node's programs for as long as the node lives; its output goes to a file of
    /// its name.
    pub(super) fn start(&self, component: &str, mut command: Command) -> Result<()> {
        let log = self.folder().join(format!("{component}.log"));
        let log = File::options().create(true).append(true).open(&log);
        let log = log.with_context(|| format!("open the log of {component}"))?;
        command
            .env("PATH", self.kit.search_path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log);
        let mut command = self.place(command, component, Detached::Yes)?;
        command
            .spawn()
            .with_context(|| format!("start {component} on {}", self.name()))?;
        Ok(())
    }

    /// Kills one of the node's programs and waits until it is gone.
    pub(super) fn stop(&self, component: &str) -> Result<()> {
        self.component(component).kill()
    }

    /// Processes of one of the node's programs.
    pub(super) fn processes_of(&self, component: &str) -> Vec<u32> {
        self.component(component).processes()
    }

    /// All processes of the node, its pods' among them.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.groups.all_processes()
    }

    pub(super) fn program(&self, name: &str) -> Command {
        Command::new(self.kit.program(name))
    }

    /// Where kubelet looks for pods that no API server told it of.
    pub(super) fn static_pods(&self) -> PathBuf {
        self.folder().join("static-pods")
    }

    pub(super) fn netns(&self) -> Result<Netns> {
        Netns::open(&self.home.netns(self.number)?)
    }

    pub(super) fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// Nodes are in two zones by turns.
    fn zone(&self) -> &'static str {
        if self.number % 2 == 1 {
            "zone-1"
        } else {
            "zone-2"
        }
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.home.node(self.number)
    }

    pub(super) const fn number(&self) -> u8 {
        self.number
    }

    pub(super) const fn groups(&self) -> &Groups {
        &self.groups
    }

    fn component(&self, name: &str) -> Groups {
        self.groups.child("system").child(name)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<Command> {
        let mut ctr = self.program("ctr");
        ctr.arg("--address")
            .arg(self.folder().join("containerd.sock"))
            .args(arguments);
        self.enter(ctr)
    }

    fn connect(&self) -> Result<()> {
        let netns = Netns::create(&self.home.netns(self.number)?)?;
        let number = self.number;
        let lan = Netns::open(&self.home.lan()?)?;
        lan.ip(&[
            format!(
                "link add node{number} type veth peer name eth0 netns {}",
                netns.name()
            ),
            format!("link set node{number} master lan up"),
        ])?;
        netns.ip(&[
            format!("addr add 10.99.0.{number}/24 dev eth0"),
            "link set eth0 up".to_owned(),
            "route add default via 10.99.0.254".to_owned(),
        ])?;
        netns.sysctl("net/ipv4/ip_forward", "1")?;
        netns.keep();
        Ok(())
    }

    fn write_files(&self) -> Result<()> {
        let folder = self.folder();
        let static_pods = self.static_pods();
        fs::create_dir_all(&static_pods)
            .with_context(|| format!("create {}", static_pods.display()))?;
        let number = self.number.to_string();
        let own = folder.display().to_string();
        let places = [
            ("@NODE@", own.as_str()),
            ("@NUMBER@", &number),
            ("@CGROUP_DRIVER@", self.cgroup_driver()),
            ("@HAS_SYSTEMD@", &self.has_systemd().to_string()),
        ];
        for (file, template) in [
            (
                "containerd.toml",
                include_str!("../../cluster/node/containerd.toml"),
            ),
            (
                "kubelet.yaml",
                include_str!("../../cluster/node/kubelet.yaml"),
            ),
            (
                "kube-proxy.yaml",
                include_str!("../../cluster/node/kube-proxy.yaml"),
            ),
            (
                "cni/10-pods.conflist",
                include_str!("../../cluster/node/cni.conflist"),
            ),
        ] {
            home::write(&folder.join(file), &self.home.fill(template, &places))?;
        }
        Ok(())
    }

    /// Starts the process that holds the node's namespaces.
    fn start_init(&self) -> Result<()> {
        self.component("init").make()?;
        let ready = self.folder().join("ready");
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--cgroup", "sh", "-c"])
            .arg(include_str!("../../cluster/node/init.sh"))
            .arg("init")
            .arg(self.groups.path())
            .arg(self.folder());
        let log = File::create(self.folder().join("init.log")).context("create a log")?;
        unshare
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log);
        // The cgroup namespace begins where its maker is: at the node's own group.
        let namespaces = vec![(self.netns()?.file().try_clone()?, CloneFlags::CLONE_NEWNET)];
        join(
            &mut unshare,
            self.groups.doors(&self.groups)?,
            namespaces,
            Detached::Yes,
        );
        let mut init = unshare.spawn().context("run unshare")?;
        let what = format!("{} has its view of the machine", self.name());
        let made = until_some_within(PATIENCE, &what, || {
            let ended = init.try_wait()?.is_some();
            Ok(if ready.exists() {
                Some(true)
            } else {
                ended.then_some(false)
            })
        })?;
        let log = fs::read_to_string(self.folder().join("init.log")).unwrap_or_default();
        anyhow::ensure!(made, "the first process of {} ended: {log}", self.name());
        Ok(())
    }

    fn place(&self, mut command: Command, component: &str, detached: Detached) -> Result<Command> {
        let group = self.component(component);
        group.make_unified()?;
        let init_group = self.component("init");
        let init = init_group.processes();
        let init = init
            .first()
            .with_context(|| format!("{} is not up", self.name()))?;
        let namespaces = [
            ("mnt", CloneFlags::CLONE_NEWNS),
            ("cgroup", CloneFlags::CLONE_NEWCGROUP),
            ("net", CloneFlags::CLONE_NEWNET),
        ];
        let namespaces = namespaces
            .into_iter()
            .map(|(name, kind)| {
                let path = format!("/proc/{init}/ns/{name}");
                let file = File::open(&path).with_context(|| format!("open {path}"))?;
                Ok((file, kind))
            })
            .collect::<Result<_>>()?;
        // systemd removes groups of cgroup v1 that nobody is in, at any time: the first process's stays.
        let doors = group.doors(&init_group)?;
        join(&mut command, doors, namespaces, detached);
        Ok(command)
    }
}

/// Whether a process goes on when the terminal that started it is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Detached {
    Yes,
    No,
}

/// Has the command's process join these groups and namespaces before it begins.
fn join(
    command: &mut Command,
    doors: Vec<File>,
    namespaces: Vec<(File, CloneFlags)>,
    detached: Detached,
) {
    let enter = move || -> io::Result<()> {
        for mut door in &doors {
            door.write_all(b"0")?;
        }
        for (namespace, kind) in &namespaces {
            setns(namespace, *kind)?;
        }
        if detached == Detached::Yes {
            setsid()?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only write(2), setns(2) and setsid(2) run, on descriptors that
    // were opened before: all are async-signal-safe, and nothing is allocated.
    unsafe { command.pre_exec(enter) };
}
