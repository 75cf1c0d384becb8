//! Acceleration of what a pod accepts: which sockets enter, and what becomes of their bytes.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Stdio;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use proxy_agent::bpf::Outgoing;
use proxy_ebpf::{PodAddress, PodFlags, Stat};

use crate::acceleration::read;
use crate::fixture::Pod;

/// The fixture's pod, and an address of another one on the same device.
const SERVER: &str = "10.77.0.2";
const CLIENT: &str = "10.77.0.9";
/// Of a pod that is in another network namespace.
const OTHER_COOKIE: u64 = u64::MAX - 1;

/// The server listens, with the other pod's address on its own device too. Sockets with a time-out do not
/// block in recv.
const LISTEN: &str = "import subprocess\n\
    socket.setdefaulttimeout(10)\n\
    subprocess.run(['ip', 'addr', 'add', '10.77.0.9/32', 'dev', 'eth0'], check=True)\n\
    l = socket.socket(); l.bind(('', 8080)); l.listen()\n";

/// Requests of 10 bytes and answers of 20 on a connection within the pod.
fn conversation(pod: &Pod, from: &str, to: &str) -> String {
    pod.client(&format!(
        "{LISTEN}s = socket.socket(); s.bind(('{from}', 0))\n\
         s.connect(('{to}', 8080)); a = l.accept()[0]\n\
         for turn in range(3):\n\
         \x20   s.sendall(b'q' * 10)\n\
         \x20   assert len(a.recv(10)) == 10\n\
         \x20   a.sendall(b'r' * 20)\n\
         \x20   assert len(s.recv(20)) == 20\n\
         print('done')"
    ))
}

fn addresses(pod: &Pod, of: [(&str, u64, PodFlags); 2]) {
    for (address, cookie, flags) in of {
        let address: IpAddr = address.parse().unwrap();
        let set = pod
            .kernel
            .set_address(address, PodAddress::new(cookie, flags));
        set.unwrap();
    }
}

const ASKS: PodFlags = PodFlags::CAPTURED.with(PodFlags::ACCELERATES);

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn what_a_pod_that_asks_accepts_from_a_pod_of_the_node_enters_and_nothing_else() {
    let own = |pod: &Pod| pod.cookie;
    let other = |_: &Pod| OTHER_COOKIE;
    type Of = fn(&Pod) -> u64;
    let cases: [(&str, Of, PodFlags, &str, &str, u64); 5] = [
        ("it asks", own, ASKS, CLIENT, SERVER, 1),
        (
            "it does not ask",
            own,
            PodFlags::CAPTURED,
            CLIENT,
            SERVER,
            0,
        ),
        // The pod has given itself an address that is another one's.
        ("not its address", other, ASKS, CLIENT, SERVER, 0),
        ("from nobody of the node", own, ASKS, "127.0.0.1", SERVER, 0),
        ("at no pod's address", own, ASKS, CLIENT, "127.0.0.1", 0),
    ];
    for (why, owner, flags, from, to, entered) in cases {
        let pod = Pod::new();
        let server = (SERVER, owner(&pod), flags);
        addresses(&pod, [server, (CLIENT, OTHER_COOKIE, PodFlags::CAPTURED)]);
        assert_eq!(conversation(&pod, from, to), "done", "{why}");
        assert_eq!(pod.stat(Stat::AccelerationAccepted), entered, "{why}");
        assert_eq!(pod.stat(Stat::Redirected), 0, "{why}: nobody has joined");
    }
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_address_that_another_pod_has_by_now_is_not_taken_from_it() {
    let pod = Pod::new();
    addresses(
        &pod,
        [
            (SERVER, pod.cookie, ASKS),
            (CLIENT, OTHER_COOKIE, PodFlags::CAPTURED),
        ],
    );
    let address: IpAddr = SERVER.parse().unwrap();
    pod.kernel.remove_address(address, OTHER_COOKIE).unwrap();
    let acceleration = pod.kernel.acceleration().unwrap();
    let at = SocketAddr::new(address, 8080);
    assert!(acceleration.is_asked_at(at));
    let local: SocketAddr = format!("{CLIENT}:4000").parse().unwrap();
    assert!(acceleration.flow_to_pod(OTHER_COOKIE, local, at).is_some());
    // The address is another pod's than that of the connection's.
    assert!(
        acceleration
            .flow_to_pod(OTHER_COOKIE - 1, local, at)
            .is_none()
    );
    pod.kernel.remove_address(address, pod.cookie).unwrap();
    assert!(!acceleration.is_asked_at(at));
    assert!(acceleration.flow_to_pod(OTHER_COOKIE, local, at).is_none());
}

/// A connection as the agent makes it: in a pod's network namespace, by a process of no pod.
fn connected(pod: &Pod) -> TcpStream {
    pod.within(|| {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
        let address = |text: String| text.parse::<SockaddrIn>().unwrap();
        bind(fd.as_raw_fd(), &address(format!("{CLIENT}:0"))).unwrap();
        connect(fd.as_raw_fd(), &address(format!("{SERVER}:8080"))).unwrap();
        TcpStream::from(fd)
    })
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn requests_are_redirected_when_the_server_has_proven_that_it_has_read() {
    let pod = Pod::new();
    let client = (CLIENT, OTHER_COOKIE, PodFlags::CAPTURED);
    addresses(&pod, [(SERVER, pod.cookie, ASKS), client]);
    let script = format!(
        "{LISTEN}print('ready', flush=True); a = l.accept()[0]\n\
         while a.recv(10): a.sendall(b'r' * 20)"
    );
    let mut server = pod.client_command(&script);
    let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(server.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready");
    let redirected = || pod.stat(Stat::RedirectedBytes);

    let mut agent = connected(&pod);
    let ask = |agent: &mut TcpStream| {
        agent.write_all(&[b'q'; 10]).unwrap();
        assert_eq!(read(agent, 20), [b'r'; 20]);
    };
    ask(&mut agent);
    let acceleration = pod.kernel.acceleration().unwrap();
    let ends = (agent.local_addr().unwrap(), agent.peer_addr().unwrap());
    let flow = acceleration.flow_to_pod(OTHER_COOKIE, ends.0, ends.1);
    let channel = acceleration.join(flow.unwrap(), agent.as_fd(), 20).unwrap();
    assert_eq!(acceleration.connections_to_pods(), (1, 1));
    let mut outgoing = Outgoing::default();
    // What the first request's answer has proven, nobody has heard.
    outgoing.begin(&channel, 10, Some(10));
    ask(&mut agent);
    assert_eq!((channel.redirected(), redirected()), (0, 20));
    channel.publish_read(40);
    for turn in 2..6 {
        outgoing.begin(&channel, turn * 10, Some(10));
        ask(&mut agent);
        channel.publish_read((turn + 1) * 20);
        assert_eq!(channel.redirected(), (turn - 1) * 10);
        assert_eq!(redirected(), 20 + (turn - 1) * 30);
    }
    drop((channel, agent));
    assert!(server.wait().unwrap().success());
}
