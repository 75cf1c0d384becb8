//! Network namespaces: made, entered, removed.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

/// A named network namespace; removed on drop by whoever made it.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: Arc<File>,
    /// Removed on drop.
    owned: bool,
}

impl Netns {
    /// Makes the namespace, with its loopback device up.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let status = Command::new("ip").args(["netns", "add", name]).status();
        ensure!(
            status.context("run ip")?.success(),
            "ip netns add {name} failed"
        );
        let mut netns = Self::open(name)?;
        netns.owned = true;
        netns.ip(&["link set lo up".to_owned()])?;
        Ok(netns)
    }

    /// Opens one that others made; it is theirs to remove.
    pub(crate) fn open(name: &str) -> Result<Self> {
        let file = File::open(PathBuf::from("/run/netns").join(name));
        Ok(Self {
            name: name.to_owned(),
            file: Arc::new(file.with_context(|| format!("open netns {name}"))?),
            owned: false,
        })
    }

    /// Leaves the namespace to those who know its name.
    pub(crate) fn keep(mut self) {
        self.owned = false;
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Runs `ip` commands inside, in one process.
    ///
    /// # Errors
    /// The first command that fails ends the batch.
    pub fn ip(&self, commands: &[String]) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-batch", "-"]);
        feed(ip, &commands.join("\n"))
    }

    /// Delays every packet that a device of the namespace sends.
    ///
    /// # Errors
    /// The kernel has no netem, or there is no such device.
    pub(crate) fn delay(&self, device: &str, delay: Duration) -> Result<()> {
        let mut tc = Command::new("tc");
        tc.args(["-n", &self.name, "-batch", "-"]);
        // netem's own limit of 1,000 packets would lose packets where only a delay is meant.
        let delay = format!("{}us limit 100000", delay.as_micros());
        feed(
            tc,
            &format!("qdisc add dev {device} root netem delay {delay}"),
        )
    }

    /// Runs `work` on a thread inside the namespace.
    ///
    /// # Errors
    /// The namespace could not be entered, or `work` failed or panicked.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || {
            setns(&*self.file, CloneFlags::CLONE_NEWNET).context("enter netns")?;
            work()
        };
        match thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(result) => result.with_context(|| format!("in netns {}", self.name)),
            Err(_) => bail!("panic in netns {}", self.name),
        }
    }

    /// Sets a network sysctl, e.g. `net/ipv6/conf/all/disable_ipv6`.
    ///
    /// # Errors
    /// The kernel has no such sysctl, or not this value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        // /proc/self is the process, whose netns is another: the thread's own view is needed.
        let path = format!("/proc/sys/{key}");
        self.enter(|| std::fs::write(&path, value).with_context(|| format!("write {path}")))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        // Nothing to be done about a failure here: the sweep of the next run takes it.
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// Runs a command with `input` on its standard input and requires success.
pub(crate) fn feed(mut command: Command, input: &str) -> Result<()> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} on\n{input}\nfailed: {stderr}"
    );
    Ok(())
}
