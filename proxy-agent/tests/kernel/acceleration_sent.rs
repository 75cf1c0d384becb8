//! Acceleration: what the agent knows of how much an application has sent.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{Backlog, listen, setsockopt, sockopt};
use proxy_ebpf::{FlowKey, PodFlags, Stat, WINDOW_BYTES};

use crate::acceleration::{PATIENCE, Pair, accepted, kernel, read, redirected};
use crate::fixture::{LISTENER_PORT, Pod};

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn the_agent_knows_when_it_has_read_all_that_the_application_has_sent() {
    let kernel = kernel();
    let mut pair = Pair::new(&kernel);
    // It has sent nothing, as far as is known: no word of it has come.
    assert!(!pair.channel.application_sent_only(0));
    pair.request(10, 0);
    for (bytes, all) in [(9, false), (10, true), (11, false)] {
        assert_eq!(pair.channel.application_sent_only(bytes), all, "{bytes}");
    }
    // One message that is redirected, and behind it one by TCP, which does not fit into the window.
    let window = usize::try_from(WINDOW_BYTES).unwrap();
    let by_tcp = kernel.stat(Stat::ByTcpWindow).unwrap();
    for bytes in [20, window] {
        pair.application.write_all(&vec![b'q'; bytes]).unwrap();
    }
    assert_eq!(redirected(&kernel), 30);
    assert_eq!(kernel.stat(Stat::ByTcpWindow).unwrap(), by_tcp + 1);
    assert_eq!(read(&mut pair.agent, 20), [b'q'; 20]);
    // All that was redirected is read, and what comes by TCP is not.
    assert!(!pair.channel.application_sent_only(30));
    assert_eq!(read(&mut pair.agent, window), vec![b'q'; window]);
    // Not all of what goes by TCP is seen: nothing is known until something is redirected again.
    let all = 30 + WINDOW_BYTES;
    assert!(!pair.channel.application_sent_only(all));
    pair.channel.publish_read(all);
    pair.request(5, all);
    assert!(pair.channel.application_sent_only(all + 5));
}

/// Bytes that went, none if they would have to wait.
fn some(went: std::io::Result<usize>) -> usize {
    went.unwrap_or_else(|error| {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        0
    })
}

/// The application's socket has room for little: the kernel takes a part of the message that the program was asked
/// about, and does not ask about the rest, nor about what is sent with it (`tcp_bpf_send_verdict`, net/ipv4/tcp_bpf.c:
/// `psock->eval` stays).
#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn nothing_is_known_of_what_comes_behind_a_message_that_broke_off() {
    const BEFORE: usize = 10;
    const BEHIND: usize = 100;
    let kernel = kernel();
    let mut pair = Pair::new(&kernel);
    pair.request(BEFORE, 0);
    setsockopt(&pair.application, sockopt::SndBuf, &8_192).unwrap();
    pair.application.set_nonblocking(true).unwrap();
    pair.agent.set_nonblocking(true).unwrap();
    let message = 2 * usize::try_from(WINDOW_BYTES).unwrap();
    let all = vec![b'q'; message + BEHIND];
    let mut written = pair.application.write(&all[..message]).unwrap();
    assert!(written < message, "it breaks off");
    let (mut arrived, since) = (0, Instant::now());
    while written < all.len() {
        assert!(
            since.elapsed() < PATIENCE,
            "{written} written, {arrived} arrived"
        );
        written += some(pair.application.write(&all[written..]));
        let room = message - arrived;
        arrived += some(pair.agent.read(&mut vec![0; room]));
    }
    pair.agent.set_nonblocking(false).unwrap();
    read(&mut pair.agent, message - arrived);
    // It was asked about the first part alone.
    assert_eq!(kernel.stat(Stat::ByTcpWindow).unwrap(), 1);
    assert_eq!(kernel.stat(Stat::ByTcpUnread).unwrap(), 0);
    assert!(
        !pair
            .channel
            .application_sent_only((BEFORE + message) as u64)
    );
    assert_eq!(read(&mut pair.agent, BEHIND), [b'q'; BEHIND]);
}

/// Waits until a listener of the pod has let a SYN go by for want of room.
fn await_dropped_syn(pod: &Pod) {
    let dropped = || {
        let counters = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
        let mut lines = counters
            .lines()
            .filter(|line| line.starts_with("TcpExt:"))
            .map(|line| line.split(' '));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let mut counters = names.zip(values);
        counters.any(|(name, value)| name == "ListenDrops" && value != "0")
    };
    let since = Instant::now();
    while !pod.within(dropped) {
        assert!(since.elapsed() < PATIENCE, "no SYN was dropped");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Such a sender is in the kernel already when the socket enters the map: what it sends is no message.
#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_sender_that_waits_for_the_connection_is_counted_from_the_first_byte() {
    // There is room for one connection that nobody has accepted; the second one's SYN has to be repeated.
    const CLIENT: &str = "f, s = socket.socket(), socket.socket(); c(f, '10.96.0.10', 80)\n\
        s.setblocking(False); c(s, '10.96.0.10', 80); s.setblocking(True)\n\
        s.sendall(b'1234'); s.recv(1); s.sendall(b'5678'); print(s.recv(9))";
    let pod = Pod::new();
    pod.enrol(PodFlags::CAPTURED.with(PodFlags::ACCELERATES));
    listen(&pod.v4, Backlog::new(0).unwrap()).unwrap();
    let said = thread::scope(|scope| {
        let client = scope.spawn(|| pod.client(CLIENT));
        await_dropped_syn(&pod);
        let _first = accepted(&pod);
        let mut agent = accepted(&pod);
        assert_eq!(read(&mut agent, 4), b"1234");
        let source = agent.peer_addr().unwrap();
        let flow = FlowKey::from_accepted(pod.cookie, source, LISTENER_PORT);
        let acceleration = pod.kernel.acceleration().unwrap();
        let channel = acceleration.join(flow, agent.as_fd(), 4).unwrap();
        agent.write_all(b"!").unwrap();
        assert_eq!(read(&mut agent, 4), b"5678");
        assert!(channel.application_sent_only(8));
        agent.write_all(b"ok").unwrap();
        client.join().unwrap()
    });
    assert_eq!(said, "b'ok'");
    assert_eq!(
        pod.stat(Stat::ByTcpNotJoined),
        0,
        "the first was no message"
    );
    assert_eq!(pod.stat(Stat::RedirectedBytes), 4);
}
