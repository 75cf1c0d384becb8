//! What becomes of redirected bytes when the process that redirected them is killed.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proxy_agent::bpf::{Outgoing, netns_cookie};
use proxy_ebpf::{End, FlowKey};

use crate::acceleration::{PATIENCE, connection, kernel};

/// Set for the process that [`killed_with_unread_bytes`] kills.
const VICTIM: &str = "PROXY_AGENT_TEST_VICTIM";

/// The part of the next test that is killed: sends by redirection, and waits.
#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn killed_with_unread_bytes() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let keep = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
    let mut agent = TcpStream::from(keep(std::io::stdin().as_fd()));
    let application: OwnedFd = keep(std::io::stderr().as_fd());
    let kernel = kernel();
    let acceleration = kernel.acceleration().unwrap();
    let (source, port) = (
        agent.peer_addr().unwrap(),
        agent.local_addr().unwrap().port(),
    );
    let flow = FlowKey::from_accepted(netns_cookie(&agent).unwrap(), source, port);
    acceleration
        .enter_pods_end(flow, End::Application, application.as_fd())
        .unwrap();
    let channel = acceleration.join(flow, agent.as_fd(), 0).unwrap();
    Outgoing::default().begin(&channel, 0, Some(1_000));
    agent.write_all(&[b'x'; 1_000]).unwrap();
    assert_eq!(channel.redirected(), 1_000);
    println!("sent");
    std::thread::sleep(PATIENCE);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn what_a_killed_agent_has_redirected_is_read_in_order_or_is_gone() {
    let (mut application, agent, ..) = connection();
    // In one expression: nothing of this process keeps the agent's end open.
    let victim = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("acceleration_killed::killed_with_unread_bytes")
        .env(VICTIM, "1")
        .stdin(OwnedFd::from(agent))
        .stderr(OwnedFd::from(application.try_clone().unwrap()))
        .stdout(Stdio::piped())
        .spawn();
    let mut victim = Victim(victim.unwrap());
    let mut said = std::io::BufReader::new(victim.0.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("sent") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert!(read > 0, "it ended before it had sent");
    }
    drop(victim);
    application
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut got = Vec::new();
    let since = Instant::now();
    while let Err(error) = application.read_to_end(&mut got) {
        if error.kind() != ErrorKind::WouldBlock {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "the stream never ended");
    }
    eprintln!("after kill -9: {} bytes", got.len());
    // Documented: docs/acceleration.md. What is read is what was sent, in order, or less.
    assert!(got.len() <= 1_000 && got.iter().all(|byte| *byte == b'x'));
}

struct Victim(std::process::Child);

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have ended already; either way nothing of it is left.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
