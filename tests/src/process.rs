//! Processes inside a pod or on the node: started in a netns and a cgroup, ended on drop.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::wait::{until, until_some};

/// Where a process is to run, and where its output goes.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) netns: Arc<File>,
    pub(crate) cgroup_procs: Arc<File>,
    pub(crate) logs: PathBuf,
}

/// A process that was started by the harness. Its process group is killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a process ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// The output of a process that ended well.
    ///
    /// # Errors
    /// The process failed; its output is in the message.
    pub fn success(self) -> Result<String> {
        let Self {
            status,
            stdout,
            stderr,
        } = self;
        ensure!(
            status.success(),
            "{status}; stdout: {stdout}; stderr: {stderr}"
        );
        Ok(stdout)
    }
}

impl Process {
    /// Starts `command` at `place`; `name` is the stem of its log files.
    pub(crate) fn spawn(place: &Place, name: &str, mut command: Command) -> Result<Self> {
        static SEQUENCE: AtomicU32 = AtomicU32::new(0);
        let stem = format!("{name}.{}", SEQUENCE.fetch_add(1, Ordering::Relaxed));
        let stdout = place.logs.join(format!("{stem}.out"));
        let stderr = place.logs.join(format!("{stem}.err"));
        command.stdin(Stdio::piped());
        command.stdout(File::create(&stdout).context("create log")?);
        command.stderr(File::create(&stderr).context("create log")?);
        command.process_group(0);
        let netns = Arc::clone(&place.netns);
        let cgroup_procs = Arc::clone(&place.cgroup_procs);
        // The cgroup first and the netns after it, as runc does.
        let join = move || {
            (&*cgroup_procs).write_all(b"0")?;
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
        };
        // SAFETY: between fork and exec only write(2) and setns(2) run, on descriptors that were
        // opened before: both are async-signal-safe, and nothing is allocated.
        unsafe { command.pre_exec(join) };
        let child = command
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process alone.
    ///
    /// # Errors
    /// The process has ended and was reaped.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.nix_pid()?, signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// The input is closed.
    pub fn input(&mut self, text: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("its input is closed")?;
        stdin
            .write_all(text.as_bytes())
            .context("write to its input")
    }

    /// Closes its standard input: how the project's own test programs are told to finish.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Waits until standard output holds `text`.
    ///
    /// # Errors
    /// It does not come, or the process ends first.
    pub fn wait_for_output(&mut self, text: &str) -> Result<()> {
        let what = format!("{} says {text:?}", self.name);
        let waited = until_some(&what, || {
            if self.stdout().contains(text) {
                return Ok(Some(Ok(())));
            }
            Ok(self.child.try_wait()?.map(Err))
        })?;
        waited.map_err(|status| {
            anyhow::anyhow!("{} ended first: {status}; {}", self.name, self.stderr())
        })
    }

    /// Waits until standard output has this many lines.
    ///
    /// # Errors
    /// They do not come.
    pub fn wait_for_lines(&self, count: usize) -> Result<()> {
        until(&format!("{} has written {count} lines", self.name), || {
            Ok(self.stdout().lines().count() >= count)
        })
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// waitpid(2) failed.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let what = format!("{} (pid {}) ends", self.name, self.child.id());
        until_some(&what, || Ok(self.child.try_wait()?))
    }

    /// Waits for its end without a bound of the harness: for clients that bound themselves.
    ///
    /// # Errors
    /// waitpid(2) failed.
    pub fn finish(mut self) -> Result<Finished> {
        self.close_input();
        let status = self
            .child
            .wait()
            .with_context(|| format!("wait for {}", self.name))?;
        let finished = Finished {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        };
        for path in [&self.stdout, &self.stderr] {
            // What it said is in the caller's hand; a loop of short commands would leave thousands.
            let _ = fs::remove_file(path);
        }
        Ok(finished)
    }

    /// Kills it and waits until it is gone: its sockets are closed when this returns.
    ///
    /// # Errors
    /// waitpid(2) failed.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        let status = self
            .child
            .wait()
            .with_context(|| format!("wait for {}", self.name))?;
        let killed = status.signal() == Some(Signal::SIGKILL as i32);
        ensure!(killed, "{} ended before it was killed: {status}", self.name);
        Ok(())
    }

    fn nix_pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(
            i32::try_from(self.child.id()).context("pid fits i32")?,
        ))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), self.nix_pid()) {
            // A stopped process dies of SIGKILL too. Errors: it ended in this moment.
            let _ = killpg(pid, Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// A program of this workspace, found beside the running test.
///
/// # Errors
/// It was not built.
pub fn tool(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("find the running test")?;
    // target/PROFILE/deps/TEST for tests, target/PROFILE/NAME for binaries.
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|p| p.is_file());
    found.with_context(|| format!("{name} is not built: run `cargo xtask e2e`"))
}

fn read_lossy(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
