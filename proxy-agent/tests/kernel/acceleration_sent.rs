//! Acceleration: what the agent knows of how much an application has sent.

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use nix::sys::socket::{setsockopt, sockopt};
use proxy_ebpf::{Stat, WINDOW_BYTES};

use crate::acceleration::{PATIENCE, Pair, kernel, read, redirected};

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
