//! What a steered socket keeps, and when that ends: a cell while there is one, else storage of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use proxy_agent::net::end_sockets;
use proxy_ebpf::{Stat, bounds, map};

use crate::direct::{SERVERS, of, pod, set, state};
use crate::fixture::Pod;

/// `pause` lets the test look; `cookie` is what the kernel calls a socket (SO_COOKIE, socket(7)). Each
/// processor gives them out in turn: on one, the few sockets of a client have a cell each.
const TOOLS: &str = "\n\
    import struct\n\
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n\
    def pause(): print('paused', flush=True); sys.stdin.readline()\n\
    def cookie(s): return struct.unpack('Q', s.getsockopt(socket.SOL_SOCKET, 57, 8))[0]\n\
    def undo(s): return ctypes.CDLL(None).connect(s.fileno(), b'\\0' * 16, 16)\n";

/// Runs a client that pauses once; returns what it prints after that.
fn paused(pod: &Pod, script: &str, look: impl FnOnce()) -> String {
    pod.kernel.heartbeat(0).unwrap().beat().unwrap();
    let mut client = pod.client_command(&format!("{SERVERS}{TOOLS}{script}"));
    client.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = client.spawn().unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "paused\n");
    look();
    client.stdin.take().unwrap().write_all(b"\n").unwrap();
    line.clear();
    while said.read_line(&mut line).unwrap() > 0 {}
    assert!(client.wait().unwrap().success());
    line.trim().to_owned()
}

fn cells(pod: &Pod) -> u64 {
    pod.entries(map::SOCKET_CELLS)
}

/// What is closed may wait for the other end's kernel to acknowledge that.
fn until(pod: &Pod, few: impl Fn(u64) -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !few(cells(pod)) {
        assert!(Instant::now() < limit, "{} cells are left", cells(pod));
        thread::sleep(Duration::from_millis(2));
    }
}

/// The process has ended.
fn given_back(pod: &Pod) {
    until(pod, |cells| cells == 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_cell_is_given_back_when_its_socket_is_closed_however_that_comes() {
    let (pod, _set) = pod(set(&[9001]));
    let script = "up(9001)\n\
        def reset(s): s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()\n\
        for _ in range(6): ask(keep=True)\n\
        proxied = [socket.socket() for _ in range(2)]\n\
        for s in proxied: assert c(s, '10.96.0.10', 80) == 'ok'\n\
        reset(kept[0]); kept[1].close(); open_[1].close(); reset(open_[2]); undo(kept[3]); reset(proxied[0])\n\
        pause(); print(c(kept[3], '10.96.0.10', 80), peer(kept[3]), peer(kept[4]))";
    let said = paused(&pod, script, || {
        let left = "two that are as they were, and one of the agent's";
        until(&pod, |cells| cells <= 3);
        assert_eq!(cells(&pod), 3, "{left}");
    });
    assert_eq!(said, "ok 10.96.0.10 80 10.96.1.1 80");
    given_back(&pod);
    assert_eq!(state(&pod, "10.77.0.2:9001").open, 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_connect_that_fails_before_its_first_segment_gives_its_cell_back_with_its_socket() {
    let (pod, _set) = pod(of(vec!["10.99.0.1:9001".to_owned()]));
    let script = "fails = [socket.socket() for _ in range(20)]\n\
        assert {c(s, '10.96.1.1', 80) for s in fails} == {'ENETUNREACH'}\n\
        pause(); [s.close() for s in fails[1:]]\n\
        print(c(fails[0], '10.96.0.10', 80), peer(fails[0]))";
    let said = paused(&pod, script, || assert_eq!(cells(&pod), 20));
    assert_eq!(said, "ok 10.96.0.10 80", "the same socket, tried again");
    given_back(&pod);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_connect_that_failed_leaves_nothing_to_the_next_one_of_its_socket_elsewhere() {
    let (pod, _set) = pod(of(vec!["10.99.0.1:9001".to_owned()]));
    let script = "up(9001)\n\
        s = socket.socket(); one = c(s, '10.96.1.1', 80)\n\
        other = c(s, '10.77.0.2', 9001); pause(); print(one, other, peer(s))";
    let said = paused(&pod, script, || assert_eq!(cells(&pod), 0));
    assert_eq!(said, "ENETUNREACH ok 10.77.0.2 9001");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_socket_whose_flow_has_no_room_gives_its_cell_back_all_the_same() {
    let pod = Pod::captured();
    let script = "s = socket.socket(); assert c(s, '10.96.0.10', 80) == 'ok'; pause(); s.close()";
    pod.fill_flows();
    paused(&pod, script, || assert_eq!(cells(&pod), 1));
    assert_eq!(pod.stat(Stat::FlowBindFailed), 1);
    given_back(&pod);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn sockets_of_the_kernel_have_no_cell_since_nothing_tells_of_their_release() {
    let (pod, _set) = pod(of(vec!["10.99.0.1:9001".to_owned()]));
    // IPPROTO_MPTCP: its subflows are sockets of the kernel that connect by TCP.
    let script = "subflows = [socket.socket(V4, socket.SOCK_STREAM, 262) for _ in range(20)]\n\
        said = {c(s, '10.96.1.1', 80) for s in subflows}\n\
        one = socket.socket(V4, socket.SOCK_STREAM, 262)\n\
        said.add(c(one, '10.96.0.10', 80)); pause(); print(sorted(said))";
    let said = paused(&pod, script, || assert_eq!(cells(&pod), 0));
    assert_eq!(said, "['ENETUNREACH', 'ok']");
    assert_eq!(pod.accept(&pod.v4), crate::addr("10.96.0.10:80"));
    assert_eq!(pod.stat(Stat::KeptInStorage), 21);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_connect_that_waits_for_the_first_write_keeps_its_cell_until_then() {
    let pod = Pod::captured();
    // TCP_FASTOPEN_CONNECT, and no cookie needed (tcp_fastopen, ip-sysctl).
    let script = "open('/proc/sys/net/ipv4/tcp_fastopen', 'w').write('5')\n\
        late = [socket.socket() for _ in range(2)]\n\
        for s in late:\n\
        \x20 s.setsockopt(socket.IPPROTO_TCP, 30, 1)\n\
        \x20 assert c(s, '10.96.0.10', 80) == 'ok'\n\
        pause(); late[1].close(); late[0].send(b'x'); print(peer(late[0]))";
    let said = paused(&pod, script, || {
        assert_eq!(cells(&pod), 2);
        assert_eq!(pod.stat(Stat::FlowBound), 0, "no segment has left");
    });
    assert_eq!(said, "10.96.0.10 80");
    assert_eq!(pod.accept(&pod.v4), crate::addr("10.96.0.10:80"));
    given_back(&pod);
}

/// Has `second` made so that `first` has the cell that it would have.
const SECOND: &str = "\
    def second(first, cells):\n\
    \x20 for _ in range(20 * cells):\n\
    \x20\x20 s = socket.socket()\n\
    \x20\x20 if cookie(s) % cells == cookie(first) % cells: return s\n\
    \x20\x20 s.close()\n";

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_socket_that_finds_its_cell_taken_keeps_the_same_in_its_own_storage() {
    let (pod, both) = pod(set(&[9001]));
    let other = Arc::new(set(&[9002]));
    pod.steer([("10.96.1.1:80", &both), ("10.96.1.2:80", &other)]);
    let script = format!(
        "{SECOND}up(9001); up(9002)\n\
         ask(keep=True); one = kept[0]\n\
         two = second(one, {}); assert c(two, '10.96.1.1', 80) == 'ok'; two.recv(9)\n\
         ask(keep=True, host='10.96.1.2'); three = kept[1]\n\
         assert peer(two) == '10.96.1.1 80'; pause()\n\
         def end(s):\n\
         \x20 try: return s.recv(1)\n\
         \x20 except OSError as e: return errno.errorcode[e.errno]\n\
         three.setblocking(False)\n\
         print(end(one), end(two), end(three), peer(three))",
        bounds::SOCKET_CELLS
    );
    let said = paused(&pod, &script, || {
        assert_eq!(cells(&pod), 2, "of three connections");
        assert_eq!(state(&pod, "10.77.0.2:9001").open, 2);
        let gone = ("10.96.1.1:80", "10.77.0.2:9001");
        let gone = (gone.0.parse().unwrap(), gone.1.parse().unwrap());
        let ended = pod.within(|| {
            end_sockets(pod.kernel.socket_storage(), |cookie, storage| {
                let steered = pod.kernel.steered(cookie, storage);
                Ok(steered.map_err(std::io::Error::other)? == Some(gone))
            })
        });
        assert_eq!(ended.unwrap(), 2, "one with a cell, one with storage");
    });
    assert_eq!(said, "ECONNABORTED ECONNABORTED EAGAIN 10.96.1.2 80");
    given_back(&pod);
    assert_eq!(state(&pod, "10.77.0.2:9001").open, 0);
    let kept = [Stat::KeptInStorage, Stat::PassedStorageFull].map(|stat| pod.stat(stat));
    assert_eq!(kept, [1, 0]);
}
