//! The programs' messages in the agent's log.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxy_ebpf::{PodFlags, Stat};
use tracing::level_filters::LevelFilter;

use crate::fixture::{Pod, sh};

/// What `tracing` wrote, as text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A subscriber for everything, and what it writes.
fn recorder() -> (Lines, impl tracing::Subscriber + Send + Sync) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (lines, subscriber)
}

/// The programs' messages so far.
fn messages(pod: &Pod) -> String {
    let (lines, subscriber) = recorder();
    let mut log = pod.kernel.take_log().unwrap();
    tracing::subscriber::with_default(subscriber, || log.flush());
    lines.text()
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn verdicts_are_logged_at_their_level() {
    for (level, shown) in [
        (LevelFilter::TRACE, [true, true]),
        (LevelFilter::DEBUG, [true, false]),
        (LevelFilter::INFO, [false, false]),
    ] {
        let pod = Pod::logging(level);
        pod.enrol(PodFlags::CAPTURED);
        pod.client("c(socket.socket(), '10.96.0.10', 80); c(socket.socket(), '10.96.0.11', 80)");
        let log = messages(&pod);
        let proxied = format!(
            "DEBUG proxy_ebpf: connect to ::ffff:10.96.0.10 port 80 from netns {}: proxied \
             to ::ffff:127.0.0.1 port 15001",
            pod.cookie
        );
        let passed = "TRACE proxy_ebpf: connect to ::ffff:10.96.0.11 port 80: passed_frontend";
        let found = [log.contains(&proxied), log.contains(passed)];
        assert_eq!(found, shown, "at {level}: {log}");
    }
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn log_lines_are_bounded_and_the_rest_is_counted() {
    let pod = Pod::logging(LevelFilter::TRACE);
    pod.client("for _ in range(2_000): c(socket.socket(), '10.96.0.10', 80)");
    let lines = messages(&pod).lines().count() as u64;
    assert_eq!(lines + pod.stat(Stat::LogDropped), 2_000);
    assert!(lines < 1_500, "{lines} lines");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn messages_that_are_off_are_not_in_the_program() {
    let bytes = |level| {
        let pod = Pod::logging(level);
        let id = pod.kernel.attached()[0].id;
        let shown = sh(&format!("bpftool prog show id {id}"));
        let words: Vec<_> = shown.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "xlated").unwrap();
        let size = words[at + 1].trim_end_matches('B');
        size.parse::<u32>().unwrap()
    };
    let (off, trace) = (bytes(LevelFilter::OFF), bytes(LevelFilter::TRACE));
    assert!(off * 2 < trace, "{off} and {trace} bytes");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn messages_are_pumped_as_they_come() {
    let pod = Pod::logging(LevelFilter::TRACE);
    let (lines, subscriber) = recorder();
    let _guard = tracing::subscriber::set_default(subscriber);
    let log = pod.kernel.take_log().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let pump = log.pump();
        let seen = async {
            for round in 1..=3 {
                pod.client("c(socket.socket(), '10.96.0.10', 80)");
                while lines.text().lines().count() < round {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        tokio::select! {
            ended = pump => panic!("the pump ended: {ended:?}"),
            seen = tokio::time::timeout(Duration::from_secs(10), seen) => seen.unwrap(),
        }
    });
}
