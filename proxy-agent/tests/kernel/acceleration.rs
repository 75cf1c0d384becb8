//! Acceleration: what enters the map of sockets, and what becomes of its bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use proxy_agent::bpf::{Channel, JoinError, Kernel, LoadOptions, Outgoing, netns_cookie};
use proxy_ebpf::{End, FlowKey, PodFlags, Stat, WINDOW_BYTES, bounds};
use tracing::level_filters::LevelFilter;

use crate::fixture::{LISTENER_PORT, Pod};

/// How long a byte may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn kernel() -> Kernel {
    kernel_for(bounds::CREDITS)
}

/// With room for so many connections.
pub(crate) fn kernel_for(accelerated: u32) -> Kernel {
    let options = LoadOptions {
        object: None,
        log_level: LevelFilter::OFF,
        accelerated,
    };
    Kernel::load(&options).expect("load the programs")
}

pub(crate) fn connection() -> (TcpStream, TcpStream, SocketAddr, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let application = TcpStream::connect(to).unwrap();
    let (agent, source) = listener.accept().unwrap();
    (application, agent, source, to.port())
}

/// A connection of this process with itself, joined.
pub(crate) struct Pair {
    pub(crate) application: TcpStream,
    pub(crate) agent: TcpStream,
    pub(crate) channel: Channel,
    flow: FlowKey,
}

impl Pair {
    pub(crate) fn new(kernel: &Kernel) -> Self {
        let (application, agent, source, port) = connection();
        let flow = FlowKey::from_accepted(netns_cookie(&agent).unwrap(), source, port);
        for socket in [&application, &agent] {
            socket.set_nodelay(true).unwrap();
        }
        let acceleration = kernel.acceleration().expect("acceleration");
        acceleration
            .enter_pods_end(flow, End::Application, application.as_fd())
            .unwrap();
        let channel = acceleration.join(flow, agent.as_fd(), 0).unwrap();
        Self {
            application,
            agent,
            channel,
            flow,
        }
    }

    /// Has the application send, and the agent read and say so.
    pub(crate) fn request(&mut self, bytes: usize, read_before: u64) {
        self.application.write_all(&vec![b'q'; bytes]).unwrap();
        assert_eq!(read(&mut self.agent, bytes), vec![b'q'; bytes]);
        self.channel.publish_read(read_before + bytes as u64);
    }
}

fn unconnected() -> OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap()
}

/// Reads as many bytes; a socket in such a map may say that it has nothing when it has.
pub(crate) fn read(socket: &mut TcpStream, bytes: usize) -> Vec<u8> {
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut all = vec![0; bytes];
    let (mut at, since) = (0, Instant::now());
    while at < bytes {
        match socket.read(&mut all[at..]) {
            Ok(0) => panic!("the stream ended at {at}"),
            Ok(count) => at += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(since.elapsed() < PATIENCE, "no byte after {at}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    all
}

/// The next connection that the pod's listener has, if it has one soon: a client that fails makes none.
pub(crate) fn accepted(pod: &Pod) -> TcpStream {
    let since = Instant::now();
    loop {
        match pod.v4.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false).unwrap();
                return socket;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(since.elapsed() < PATIENCE, "nobody has connected");
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn redirected(kernel: &Kernel) -> u64 {
    kernel.stat(Stat::RedirectedBytes).unwrap()
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn this_kernel_passes_the_self_test() {
    let kernel = kernel();
    let items = kernel.self_test().expect("acceleration");
    let failed = items.iter().filter(|item| item.failure.is_some());
    let failed: Vec<_> = failed.map(|item| item.name).collect();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let expected: &[&str] = if release.starts_with("6.1.") {
        &["fionread"]
    } else {
        &[]
    };
    assert_eq!((items.len(), &*failed), (7, expected), "{items:?}");
    assert_eq!(redirected(&kernel), 0, "the self-test does not count");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_application_is_redirected_up_to_the_window_and_again_when_all_was_read() {
    let kernel = kernel();
    let mut pair = Pair::new(&kernel);
    let window = usize::try_from(WINDOW_BYTES).unwrap();
    let mut buffer = vec![b'a'; window - 10];
    pair.application.write_all(&buffer).unwrap();
    let so_far = redirected(&kernel);
    assert_eq!(so_far, WINDOW_BYTES - 10);
    // One byte more than the window: by TCP, and so is what comes behind it.
    pair.application.write_all(&[b'b'; 11]).unwrap();
    pair.application.write_all(&[b'c'; 1]).unwrap();
    assert_eq!(redirected(&kernel), so_far);
    assert_eq!(kernel.stat(Stat::ByTcpWindow).unwrap(), 1);
    assert_eq!(kernel.stat(Stat::ByTcpUnread).unwrap(), 1);
    buffer.extend([b'b'; 11]);
    buffer.push(b'c');
    assert_eq!(read(&mut pair.agent, buffer.len()), buffer);
    // All but the last byte was read, as far as is known.
    pair.channel.publish_read(buffer.len() as u64 - 1);
    pair.application.write_all(b"d").unwrap();
    assert_eq!(redirected(&kernel), so_far);
    assert_eq!(read(&mut pair.agent, 1), b"d");
    pair.channel.publish_read(buffer.len() as u64 + 1);
    pair.application.write_all(&vec![b'e'; window]).unwrap();
    assert_eq!(redirected(&kernel), so_far + WINDOW_BYTES);
    assert_eq!(read(&mut pair.agent, window), vec![b'e'; window]);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn the_agent_redirects_only_what_the_application_has_proven_room_for() {
    let kernel = kernel();
    let mut pair = Pair::new(&kernel);
    let mut outgoing = Outgoing::default();
    pair.request(10, 0);
    let requests = redirected(&kernel);
    assert_eq!(requests, 10);
    // Larger than the window: by TCP, and not read yet when the next one begins.
    let large = vec![b'x'; usize::try_from(WINDOW_BYTES).unwrap() + 1];
    outgoing.begin(&pair.channel, 0, Some(large.len() as u64));
    pair.agent.write_all(&large).unwrap();
    pair.request(10, 10);
    outgoing.begin(&pair.channel, large.len() as u64, Some(5));
    pair.agent.write_all(b"early").unwrap();
    assert_eq!(pair.channel.redirected(), 0);
    assert_eq!(read(&mut pair.application, large.len()), large);
    assert_eq!(read(&mut pair.application, 5), b"early");
    // It has read everything, and says so with its next request.
    pair.request(10, 20);
    outgoing.begin(&pair.channel, large.len() as u64 + 5, Some(4));
    pair.agent.write_all(b"late").unwrap();
    assert_eq!(pair.channel.redirected(), 4);
    assert_eq!(read(&mut pair.application, 4), b"late");
    assert_eq!(redirected(&kernel), requests + 20 + 4);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_credit_that_is_used_again_is_nothing_to_its_former_connection() {
    let kernel = kernel();
    let acceleration = kernel.acceleration().unwrap();
    let mut former = Pair::new(&kernel);
    former.request(10, 0);
    assert_eq!(redirected(&kernel), 10);
    drop(former.channel);
    // As many others as there are credits, one after the other: the last one has the former's. The
    // kernel refuses a socket that is not connected, when it has its credit already.
    let (_other, agent, source, port) = connection();
    let flow = FlowKey::from_accepted(netns_cookie(&agent).unwrap(), source, port);
    let unconnected = unconnected();
    for _ in 0..bounds::CREDITS - 1 {
        let refused = acceleration.join(flow, unconnected.as_fd(), 0);
        assert!(matches!(refused, Err(JoinError::Kernel { .. })));
    }
    assert_eq!(acceleration.connections().0, 0);
    let reused = acceleration.join(flow, agent.as_fd(), 0).unwrap();
    reused.publish_read(1_000);
    reused.permit(1_000);
    former.application.write_all(b"stale").unwrap();
    former.agent.write_all(b"stale").unwrap();
    assert_eq!(redirected(&kernel), 10);
    assert_eq!(reused.redirected(), 0);
    assert!(
        [10, 15]
            .iter()
            .all(|bytes| !reused.application_sent_only(*bytes))
    );
    assert_eq!(read(&mut former.agent, 5), b"stale");
    assert_eq!(read(&mut former.application, 5), b"stale");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_application_whose_other_end_is_closed_goes_by_tcp() {
    let kernel = kernel();
    let mut pair = Pair::new(&kernel);
    pair.request(10, 0);
    pair.agent.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(pair.application.read(&mut [0; 1]).unwrap(), 0);
    drop((pair.agent, pair.channel));
    // Nobody is there: TCP says so, as it does without acceleration.
    let since = Instant::now();
    let refused = loop {
        match pair.application.write(b"x") {
            Ok(_) if since.elapsed() < PATIENCE => {}
            Ok(_) => panic!("bytes went on into nothing: {:?}", pair.flow),
            Err(error) => break error,
        }
    };
    assert!(matches!(
        refused.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    ));
    assert_eq!(redirected(&kernel), 10);
}

/// What a pod's client does: connects, sends in two parts, waits for the answer.
const CLIENT: &str = "s = socket.socket(); c(s, '10.96.0.10', 80)\n\
    s.sendall(b'1234'); s.recv(1); s.sendall(b'5678'); print(s.recv(9))";

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn only_sockets_of_pods_that_ask_for_it_enter() {
    for (flags, entered) in [
        (PodFlags::CAPTURED.with(PodFlags::ACCELERATES), 1),
        (PodFlags::CAPTURED, 0),
    ] {
        let pod = Pod::new();
        pod.enrol(flags);
        let said = std::thread::scope(|scope| {
            let client = scope.spawn(|| pod.client(CLIENT));
            let mut agent = accepted(&pod);
            let source = agent.peer_addr().unwrap();
            assert_eq!(read(&mut agent, 4), b"1234");
            let flow = FlowKey::from_accepted(pod.cookie, source, LISTENER_PORT);
            let acceleration = pod.kernel.acceleration().unwrap();
            let channel = acceleration.join(flow, agent.as_fd(), 4).unwrap();
            agent.write_all(b"!").unwrap();
            assert_eq!(read(&mut agent, 4), b"5678");
            let mut outgoing = Outgoing::default();
            outgoing.begin(&channel, 1, Some(2));
            agent.write_all(b"ok").unwrap();
            client.join().unwrap()
        });
        assert_eq!(said, "b'ok'");
        assert_eq!(pod.stat(Stat::AccelerationEntered), entered);
        assert_eq!(pod.stat(Stat::RedirectedBytes), entered * (4 + 2));
    }
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_client_that_sends_data_with_its_syn_goes_by_tcp() {
    let pod = Pod::new();
    pod.enrol(PodFlags::CAPTURED.with(PodFlags::ACCELERATES));
    let said = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            pod.client(
                "open('/proc/sys/net/ipv4/tcp_fastopen', 'w').write('5')\n\
                 s = socket.socket(); s.sendto(b'1234', 0x20000000, ('10.96.0.10', 80))\n\
                 s.sendall(b'5678'); print(s.recv(9))",
            )
        });
        let mut agent = accepted(&pod);
        assert_eq!(read(&mut agent, 8), b"12345678");
        agent.write_all(b"ok").unwrap();
        client.join().unwrap()
    });
    assert_eq!(said, "b'ok'");
    assert_eq!(pod.stat(Stat::AccelerationFastOpen), 1);
    assert_eq!(pod.stat(Stat::AccelerationEntered), 0);
}

/// Two pods whose clients have the same address and port on loopback.
#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn the_same_loopback_addresses_in_another_pod_are_another_connection() {
    let kernel = kernel();
    let mut pair = Pair::new(&kernel);
    let acceleration = kernel.acceleration().unwrap();
    let (mut other, other_agent, ..) = connection();
    // Only the cookie differs.
    let source = pair.application.local_addr().unwrap();
    let port = pair.agent.local_addr().unwrap().port();
    let flow = FlowKey::from_accepted(u64::MAX, source, port);
    acceleration
        .enter_pods_end(flow, End::Application, other.as_fd())
        .unwrap();
    let _channel = acceleration.join(flow, other_agent.as_fd(), 0).unwrap();
    Outgoing::default().begin(&pair.channel, 0, Some(4));
    pair.agent.write_all(b"mine").unwrap();
    assert_eq!(pair.channel.redirected(), 4);
    assert_eq!(read(&mut pair.application, 4), b"mine");
    other.set_nonblocking(true).unwrap();
    let nothing = other.read(&mut [0; 9]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
}
