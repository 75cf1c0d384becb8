//! Acceleration of direct connections between two pods that both ask for it, without the agent.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Child, ChildStdout, Stdio};

use proxy_ebpf::{PodAddress, PodFlags, Stat, map};

use crate::direct::{client, pod, set};
use crate::fixture::Pod;

const V4: &str = "10.77.0.2";
const V6: &str = "fd00:77::2";
const OTHER_COOKIE: u64 = u64::MAX - 1;
const ASKS: PodFlags = PodFlags::CAPTURED.with(PodFlags::ACCELERATES_DIRECT);
const WITH_AGENT: PodFlags = PodFlags::CAPTURED.with(PodFlags::ACCELERATES);

/// A pod that connects to itself by way of a direct Service: client and server are both its own.
fn pod_with(flags: PodFlags, address: &str, owner: impl Fn(&Pod) -> u64, says: PodFlags) -> Pod {
    let (pod, _set) = pod(set(&[9001]));
    pod.enrol(flags);
    let address: IpAddr = address.parse().unwrap();
    let whose = PodAddress::new(owner(&pod), says);
    pod.kernel.set_address(address, whose).unwrap();
    pod
}

/// `turns` requests of 10 bytes and answers of 20 on one connection.
const CONVERSATION: &str = "
l = socket.socket(); l.bind(('10.77.0.2', 9001)); l.listen()
socket.setdefaulttimeout(10)
s = socket.socket(); s.connect(('10.96.1.1', 80)); a = l.accept()[0]
for turn in range(5):
    s.sendall(b'q' * 10)
    assert len(a.recv(10)) == 10
    a.sendall(b'r' * 20)
    assert len(s.recv(20)) == 20
print('done')";

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_direct_connection_between_pods_that_both_ask_goes_from_socket_to_socket_and_no_other() {
    let own = |pod: &Pod| pod.cookie;
    let other = |_: &Pod| OTHER_COOKIE;
    type Of = fn(&Pod) -> u64;
    let cases: [(&str, PodFlags, &str, Of, PodFlags, u64); 5] = [
        ("both ask", ASKS, V4, own, ASKS, 2),
        ("the client does not", WITH_AGENT, V4, own, ASKS, 0),
        ("the server does not", ASKS, V4, own, WITH_AGENT, 0),
        ("at another pod's address", ASKS, V4, other, ASKS, 0),
        ("at nobody's address", ASKS, V6, own, ASKS, 0),
    ];
    for (why, flags, address, owner, says, paired) in cases {
        let pod = pod_with(flags, address, owner, says);
        assert_eq!(client(&pod, CONVERSATION), "done", "{why}");
        assert_eq!(pod.stat(Stat::AccelerationPaired), paired, "{why}");
        let bytes = if paired == 2 { 5 * 30 } else { 0 };
        assert_eq!(pod.stat(Stat::RedirectedBytes), bytes, "{why}");
        assert_eq!(pod.entries(map::PAIRS), 0, "{why}: it is closed");
    }
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn so_does_one_of_ipv6_and_one_in_which_the_server_speaks_first() {
    let pod = pod_with(ASKS, V6, |pod| pod.cookie, ASKS);
    let (frontend, endpoint) = ("[fd00:96::1:1]:80", "[fd00:77::2]:9001");
    let to = std::sync::Arc::new(crate::direct::of(vec![endpoint.to_owned()]));
    pod.steer([(frontend, &to)]);
    let script = CONVERSATION
        .replace("socket.socket()", "socket.socket(V6)")
        .replace(V4, V6)
        .replace("10.96.1.1", "fd00:96::1:1")
        .replace(
            "for turn",
            "a.sendall(b'hello'); assert s.recv(5) == b'hello'\nfor turn",
        );
    assert_eq!(client(&pod, &script), "done");
    assert_eq!(pod.stat(Stat::AccelerationPaired), 2);
    assert_eq!(pod.stat(Stat::RedirectedBytes), 5 + 5 * 30);
    assert_eq!(pod.stat(Stat::ByTcpUnread), 0);
}

/// The server's socket is not there before its first byte (TCP_DEFER_ACCEPT): that goes by TCP, and what
/// follows it until the server is known to have read it.
#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn what_went_by_tcp_is_read_before_anything_is_redirected() {
    let pod = pod_with(ASKS, V4, |pod| pod.cookie, ASKS);
    let script = "
l = socket.socket(); l.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
l.bind(('10.77.0.2', 9001)); l.listen()
socket.setdefaulttimeout(10)
s = socket.socket(); s.connect(('10.96.1.1', 80))
s.sendall(b'1' * 10)
a = l.accept()[0]
s.sendall(b'2' * 10)
a.sendall(b'unread')
s.sendall(b'3' * 10)
got = b''
while len(got) < 30: got += a.recv(30)
assert got == b'1' * 10 + b'2' * 10 + b'3' * 10, got
a.sendall(b'read')
s.sendall(b'4' * 10)
assert a.recv(30) == b'4' * 10
print('done')";
    assert_eq!(client(&pod, script), "done");
    assert_eq!(pod.stat(Stat::ByTcpGone), 1, "the first");
    assert_eq!(pod.stat(Stat::ByTcpUnread), 2, "the second and the third");
    assert_eq!(pod.stat(Stat::RedirectedBytes), 6 + 4 + 10);
}

/// A socket that was reset is in the map until its application closes it.
#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_connection_with_the_ports_of_one_that_was_reset_has_nothing_of_it() {
    let pod = pod_with(ASKS, V4, |pod| pod.cookie, ASKS);
    let script = "
import struct
l = socket.socket(); l.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
l.bind(('10.77.0.2', 9001)); l.listen()
socket.setdefaulttimeout(10)
def client():
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('10.77.0.2', 7001)); s.connect(('10.96.1.1', 80))
    return s
s = client(); s.sendall(b'1'); a = l.accept()[0]
a.settimeout(10)
assert a.recv(9) == b'1'
a.sendall(b'ok'); assert s.recv(9) == b'ok'
s.sendall(b'redirected'); assert a.recv(99) == b'redirected'
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()
t = client(); t.sendall(b'other')
b = l.accept()[0]; b.settimeout(10)
assert b.recv(9) == b'other'
try: assert False, a.recv(9)
except ConnectionResetError: pass
try: a.sendall(b'late'); said = 'sent'
except BrokenPipeError: said = 'refused'
b.sendall(b'answer'); assert t.recv(99) == b'answer'
print(said)";
    let said = client(&pod, script);
    assert!(said == "refused" || said == "sent", "{said}");
    assert_eq!(pod.stat(Stat::AccelerationPaired), 4);
}

/// A client that talks with its test by lines.
struct Talk(Child, BufReader<ChildStdout>);

impl Talk {
    fn begin(pod: &Pod, script: &str) -> Self {
        let mut command = pod.client_command(script);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self(child, said)
    }

    fn hear(&mut self, expected: &str) {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), expected);
    }

    fn say(&mut self) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(b"\n").unwrap();
    }
}

/// Nothing of this is the agent's: connections between pods outlive it, with what lies unread in them.
#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_agent_that_ends_takes_no_byte_of_a_connection_between_pods_with_it() {
    let pod = pod_with(ASKS, V4, |pod| pod.cookie, ASKS);
    pod.kernel.heartbeat(0).unwrap().beat().unwrap();
    let script = "
l = socket.socket(); l.bind(('10.77.0.2', 9001)); l.listen()
socket.setdefaulttimeout(10)
s = socket.socket(); s.connect(('10.96.1.1', 80)); a = l.accept()[0]
def both(byte):
    s.sendall(byte * 100000); a.sendall(byte * 200000)
def read(of, count):
    got = b''
    while len(got) < count:
        more = of.recv(count - len(got)); assert more, len(got); got += more
    return got
both(b'1')
print('unread', flush=True); sys.stdin.readline()
both(b'2')
assert read(a, 200000) == b'1' * 100000 + b'2' * 100000
assert read(s, 400000) == b'1' * 200000 + b'2' * 200000
for turn in range(100):
    both(b'3'); assert read(a, 100000) == b'3' * 100000; assert read(s, 200000) == b'3' * 200000
s.close(); assert a.recv(1) == b''
print('done', flush=True)";
    let mut talk = Talk::begin(&pod, script);
    talk.hear("unread");
    assert_eq!(pod.stat(Stat::RedirectedBytes), 300_000);
    drop(pod.kernel);
    // The kernel frees maps and programs some time after the last descriptor.
    std::thread::sleep(std::time::Duration::from_secs(1));
    talk.say();
    talk.hear("done");
    assert!(talk.0.wait().unwrap().success());
}
