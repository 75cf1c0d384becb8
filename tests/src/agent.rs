//! The real binary on a node: started, asked, signalled, ended.

mod options;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::admin::{self, Reply};
use crate::config::ConfigDir;
use crate::manifest;
use crate::node::Node;
use crate::pod::Pod;
use crate::process::{Finished, Process};
use crate::service::Service;
use crate::wait::{until, until_some};

pub use options::AgentOptions;

/// A running agent; killed on drop.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    node: Node,
    netns: String,
    socket: PathBuf,
    admin_address: SocketAddr,
    binary: PathBuf,
}

impl Agent {
    /// Starts the usual agent and waits until it is ready.
    ///
    /// # Errors
    /// As [`AgentOptions::start`].
    pub fn start(node: &Node) -> Result<Self> {
        AgentOptions::new(node).start()
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Errors
    /// It ended, or did not become ready; its log is in the message.
    pub fn wait_ready(&mut self) -> Result<()> {
        let waited = until_some("the agent is ready", || {
            if !self.process.is_running()? {
                return Ok(Some(false));
            }
            let ready = self.get("/readyz")?;
            ensure!(
                ready.status == 200,
                "/readyz: {} {}",
                ready.status,
                ready.body
            );
            Ok(Some(true))
        });
        match waited {
            Ok(true) => Ok(()),
            Ok(false) => bail!("the agent ended; its log:\n{}", self.log_tail()),
            Err(error) => Err(error.context(format!("its log:\n{}", self.log_tail()))),
        }
    }

    /// Waits until this agent is the one that serves the node.
    ///
    /// # Errors
    /// It ended, or another one serves; its log is in the message.
    pub fn wait_serving(&mut self) -> Result<()> {
        let pid = self.pid();
        let waited = until_some("the agent serves the node", || {
            if !self.process.is_running()? {
                return Ok(Some(false));
            }
            let overview = self.status()?["overview"].clone();
            ensure!(
                overview["pid"] == pid && overview["state"] == "serving",
                "status shows {overview}"
            );
            Ok(Some(true))
        });
        let served = waited.with_context(|| format!("its log:\n{}", self.log_tail()))?;
        ensure!(served, "the agent ended; its log:\n{}", self.log_tail());
        Ok(())
    }

    /// The socket beside the admin socket where successors ask.
    pub fn handover_socket(&self) -> PathBuf {
        self.socket.with_extension("handover.sock")
    }

    /// Everything that `GET /status` shows.
    ///
    /// # Errors
    /// It does not answer with JSON.
    pub fn status(&self) -> Result<Value> {
        let reply = self.get("/status")?;
        serde_json::from_str(&reply.body).with_context(|| format!("/status: {}", reply.body))
    }

    /// Writes objects into a file of manifests and waits until they are in force.
    ///
    /// # Errors
    /// The file cannot be written, or what it says does not come in force.
    pub fn put(&self, config: &ConfigDir, file: &str, objects: &[Value]) -> Result<()> {
        // Other files may still be on their way: a new snapshot alone says nothing about this one.
        let mark = manifest::mark();
        let name = mark["metadata"]["name"].as_str().context("a name")?;
        config.put(file, &[objects, slice::from_ref(&mark)].concat())?;
        until(&format!("{file} is in force"), || {
            self.service(name).map(|_mark| true)
        })
    }

    /// As [`Agent::put`], and `status` shows no error then.
    ///
    /// # Errors
    /// As there, or one is shown.
    pub fn apply(&self, config: &ConfigDir, file: &str, objects: &[Value]) -> Result<()> {
        self.put(config, file, objects)?;
        let status = self.status()?;
        ensure!(status["overview"]["errors"] == 0, "{}", status["problems"]);
        Ok(())
    }

    /// The agent's metrics page.
    ///
    /// # Errors
    /// Port 15020 does not answer.
    pub fn metrics(&self) -> Result<String> {
        Ok(self.probe("/metrics")?.1)
    }

    /// Status and body of a path on port 15020, as kubelet's probes and Prometheus see it.
    ///
    /// # Errors
    /// Nothing answers there.
    pub fn probe(&self, path: &str) -> Result<(u16, String)> {
        let mut curl = Command::new("ip");
        let url = format!("http://{}{path}", self.admin_address);
        curl.args([
            "netns",
            "exec",
            &self.netns,
            "curl",
            "--silent",
            "--max-time",
            "5",
        ]);
        curl.args(["--write-out", "\n%{http_code}", &url]);
        let output = curl.output().context("run curl")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, code) = text
            .rsplit_once('\n')
            .context("curl prints the status code")?;
        let code: u16 = code
            .parse()
            .with_context(|| format!("status code {code:?}"))?;
        ensure!(code > 0, "nothing answers at {url}");
        Ok((code, body.to_owned()))
    }

    /// Runs another verb of the binary against this agent.
    ///
    /// # Errors
    /// The binary could not be started.
    pub fn verb(&self, arguments: &[&str]) -> Result<Finished> {
        let socket = self.socket.to_str().context("a path in UTF-8")?;
        self.offline(&[arguments, &["--admin-socket", socket]].concat())
    }

    /// Runs a verb of the binary that asks no agent.
    ///
    /// # Errors
    /// The binary could not be started.
    pub fn offline(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(&self.binary);
        command.args(arguments);
        self.node.spawn("verb", command)?.finish()
    }

    /// Waits until these pods are captured.
    ///
    /// # Errors
    /// One is not; the agent's reason and log are in the message.
    pub fn wait_captured<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) -> Result<()> {
        for pod in pods {
            self.wait_pod(pod, true)?;
        }
        Ok(())
    }

    /// Waits until the pod is seen and not captured; the reason is returned.
    ///
    /// # Errors
    /// It is captured, or not seen.
    pub fn wait_not_captured(&self, pod: &Pod) -> Result<String> {
        let entry = self.wait_pod(pod, false)?;
        Ok(entry["reason"].as_str().unwrap_or_default().to_owned())
    }

    fn wait_pod(&self, pod: &Pod, captured: bool) -> Result<Value> {
        let what = format!("pod {} has captured={captured}", pod.name());
        let waited = until_some(&what, || {
            let status = self.status()?;
            let entry = find(&status, "pods", |entry| entry["uid"] == pod.uid());
            let entry = entry.with_context(|| format!("pod {} is not in status", pod.name()))?;
            ensure!(entry["captured"] == captured, "status shows {entry}");
            Ok(Some(entry))
        });
        waited.with_context(|| format!("the agent's log:\n{}", self.log_tail()))
    }

    /// Waits until a Service is shown with this many usable endpoints.
    ///
    /// # Errors
    /// It is not.
    pub fn wait_endpoints(&self, service: &Service, count: usize) -> Result<()> {
        let name = service.name();
        let waited = until(&format!("service {name} has {count} endpoints"), || {
            let entry = self.service(name)?;
            ensure!(entry["endpoints"] == count, "status shows {entry}");
            Ok(true)
        });
        waited.with_context(|| format!("the agent's log:\n{}", self.log_tail()))
    }

    /// The entry of a Service of namespace `default` in `status`.
    ///
    /// # Errors
    /// There is none.
    pub fn service(&self, name: &str) -> Result<Value> {
        let status = self.status()?;
        find(&status, "services", |entry| {
            entry["namespace"] == "default" && entry["name"] == name
        })
        .with_context(|| format!("service {name} is not in status"))
    }

    /// A counter of the BPF programs.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let status = self.status()?;
        let found = find(&status["bpf"], "counters", |entry| entry["name"] == name);
        found
            .and_then(|entry| entry["value"].as_u64())
            .with_context(|| format!("no counter {name} in status"))
    }

    /// Waits until a problem line in `status` holds every one of these texts.
    ///
    /// # Errors
    /// There is none; the problems that there are, are in the message.
    pub fn wait_problem(&self, texts: &[&str]) -> Result<Value> {
        until_some(&format!("a problem says {texts:?}"), || {
            let status = self.status()?;
            let found = find(&status, "problems", |entry| {
                let line = entry.to_string();
                texts.iter().all(|text| line.contains(text))
            });
            found
                .map(Some)
                .with_context(|| format!("status shows {}", status["problems"]))
        })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The agent has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.stderr() + &self.process.stdout()
    }

    /// Sends SIGTERM and requires that it ends with exit code 0.
    ///
    /// # Errors
    /// It ended otherwise; its log is in the message.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.process.wait()?;
        ensure!(
            status.success(),
            "the agent ended with {status}; its log:\n{}",
            self.log_tail()
        );
        Ok(())
    }

    /// Number of entries under a directory of its `/proc/PID`: `fd`, `task`.
    ///
    /// # Errors
    /// The agent has ended.
    pub fn proc_count(&self, directory: &str) -> Result<usize> {
        let path = Path::new("/proc")
            .join(self.pid().to_string())
            .join(directory);
        let entries = fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(entries.count())
    }

    /// Memory in use, `VmRSS`, in KiB.
    ///
    /// # Errors
    /// The agent has ended.
    pub fn memory_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.context("no VmRSS")
    }

    fn get(&self, path: &str) -> Result<Reply> {
        let stream = UnixStream::connect(&self.socket).context("connect to the admin socket")?;
        stream.set_read_timeout(Some(admin::TIMEOUT))?;
        admin::get(stream, path)
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            use std::io::Write as _;
            // A failed assertion is judged by the agent's log; it cannot be written twice.
            let _ = writeln!(std::io::stderr(), "the agent's log:\n{}", self.log_tail());
        }
    }
}

fn find(value: &Value, list: &str, matches: impl Fn(&Value) -> bool) -> Option<Value> {
    value[list]
        .as_array()?
        .iter()
        .find(|entry| matches(entry))
        .cloned()
}
