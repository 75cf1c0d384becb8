//! One virtual machine: started under emulation, listened to, ended.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::kernel::Kernel;

/// The line that a machine ends with; without it nothing that it said counts.
pub(super) const MARKER: &str = "vm-test: end";

/// An emulated processor may stand still for long when the machine below is busy: `no_timer_check`
/// and `nowatchdog` keep the kernel from taking that for broken hardware. From 6.19 on sockets' storage is
/// allocated without locks (`kmalloc_nolock` in mm/slub.c), which takes `cmpxchg16b` or a slab that is debugged: the
/// emulated processor lacks the one, so `slab_debug` gives the other.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off \
                            no_timer_check nowatchdog slab_debug=F";

/// Messages after which a kernel is not well, whatever the tests say.
const COMPLAINTS: &[&str] = &[
    "BUG:",
    "Oops",
    "WARNING:",
    "general protection",
    "Out of memory",
];

/// Lines of the kernel's that are shown of a machine that went off.
const SHOWN_LINES: usize = 80;

/// What a machine is made of.
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) initramfs: &'a Path,
    /// The root file system; what the machine writes to it is thrown away.
    pub(super) root: &'a Path,
    /// Where the kernel's own messages go.
    pub(super) console: PathBuf,
    /// How long it may take.
    pub(super) timeout: Duration,
}

/// What a machine said.
pub(super) struct Said {
    /// Lines of the tests.
    pub(super) lines: Vec<String>,
    /// Messages of the kernel.
    pub(super) console: String,
    /// From power on to the end.
    pub(super) took: Duration,
}

impl Machine<'_> {
    /// Runs it to its end; every line is shown as it comes. QEMU itself may crash as it starts: once is forgiven,
    /// as long as nothing of the machine was heard.
    pub(super) fn run(&self, mut show: impl FnMut(&str)) -> Result<Said> {
        if let Some(said) = self.try_run(&mut show)? {
            return Ok(said);
        }
        show("qemu crashed before the machine said a word: once more");
        self.try_run(&mut show)?.context("qemu crashed twice")
    }

    /// Nothing if QEMU crashed before the machine said a word.
    fn try_run(&self, mut show: impl FnMut(&str)) -> Result<Option<Said>> {
        let begun = Instant::now();
        let mut running = Running(self.command().spawn().context("start qemu")?);
        let output = running.0.stdout.take().context("its output is piped")?;
        let (sender, receiver) = mpsc::channel();
        // Ends with the machine's output, at the latest when the machine is killed.
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut lines = Vec::new();
        let in_time = loop {
            let left = self.timeout.saturating_sub(begun.elapsed());
            match receiver.recv_timeout(left) {
                Ok(line) => {
                    show(&line);
                    lines.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console).into_owned();
        if !in_time {
            bail!(
                "it did not end within {:?}{}",
                self.timeout,
                last_words(&console)
            );
        }
        let status = running.0.wait().context("wait for qemu")?;
        if lines.is_empty() && status.signal().is_some() {
            return Ok(None);
        }
        ensure!(status.success(), "qemu ended with {status}");
        let ended = lines.iter().any(|line| line == MARKER);
        ensure!(ended, "it went off before its end{}", last_words(&console));
        Ok(Some(Said {
            lines,
            console,
            took: begun.elapsed(),
        }))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nice");
        command.args(["-n", "10", "qemu-system-x86_64"]);
        // Emulation on purpose: it runs wherever the tests run, and the same everywhere.
        command.args(["-machine", "q35", "-accel", "tcg,thread=multi"]);
        // QEMU 7.2's cmpxchg16b can leave an address in the flags, and kernels from 6.12 on die of it.
        command.args(["-cpu", "max,-cx16", "-smp", "2", "-m", "1536M"]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-monitor", "none"]);
        command.arg("-kernel").arg(self.kernel.vmlinuz());
        command.arg("-initrd").arg(self.initramfs);
        command.args(["-append", COMMAND_LINE]);
        for (disk, option) in [
            (self.root, "snapshot=on"),
            (&*self.kernel.modules_image(), "readonly=on"),
        ] {
            let disk = disk.display();
            let drive = format!("file={disk},format=raw,if=virtio,{option}");
            command.args(["-drive", &drive]);
        }
        let console = format!("file:{}", self.console.display());
        command.args(["-serial", &console, "-serial", "stdio"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

/// Whether this message means that the kernel is not well.
pub(super) fn complains(line: &str) -> bool {
    COMPLAINTS.iter().any(|words| line.contains(words))
}

/// The kernel's messages from its first complaint on, or its last ones: a machine that went off said nothing
/// better, and the next one overwrites the file.
fn last_words(console: &str) -> String {
    let lines: Vec<&str> = console.lines().map(str::trim_end).collect();
    let complaint = lines.iter().position(|line| complains(line));
    let first = complaint.unwrap_or(lines.len().saturating_sub(SHOWN_LINES));
    let shown: Vec<&str> = lines.into_iter().skip(first).take(SHOWN_LINES).collect();
    format!("; the kernel's last messages:\n{}", shown.join("\n"))
}

/// Killed on drop, if it still runs.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_kernel_that_died_its_first_complaint_is_shown() {
        let quiet = |count| "quiet\n".repeat(count);
        let died = format!("{}Oops: int3\n{}", quiet(200), quiet(200));
        let said = last_words(&died);
        assert!(said.contains("\nOops: int3\n"), "{said}");
        assert_eq!(said.lines().count(), 1 + SHOWN_LINES);
    }

    #[test]
    fn of_a_kernel_that_went_off_quietly_the_end_is_shown() {
        let said = last_words(&format!("{}the end\n", "quiet\n".repeat(200)));
        assert!(said.ends_with("the end"), "{said}");
        assert_eq!(said.lines().count(), 1 + SHOWN_LINES);
    }
}
