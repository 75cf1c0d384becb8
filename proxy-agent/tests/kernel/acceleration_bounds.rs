//! Acceleration at its bounds: what does not fit goes by TCP, and is counted.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::thread;

use proxy_agent::bpf::{JoinError, netns_cookie};
use proxy_ebpf::{FlowKey, PodFlags, Stat, bounds};

use crate::acceleration::{connection, kernel, read};
use crate::fixture::{LISTENER_PORT, Pod};

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn one_more_than_there_are_credits_goes_by_tcp() {
    let kernel = kernel();
    let acceleration = kernel.acceleration().unwrap();
    let (mut application, mut agent, source, port) = connection();
    let join = |cookie: u64| {
        let flow = FlowKey::from_accepted(cookie, source, port);
        acceleration.join(flow, agent.as_fd(), 0)
    };
    let mut held = Vec::new();
    for cookie in 0..u64::from(bounds::CREDITS) {
        held.push(join(u64::MAX - cookie).expect("a credit"));
    }
    assert_eq!(acceleration.connections().0, u64::from(bounds::CREDITS));
    let own = netns_cookie(&agent).unwrap();
    assert!(matches!(join(own), Err(JoinError::NoCredit)));
    // It goes on as it was.
    application.write_all(b"by TCP").unwrap();
    assert_eq!(read(&mut agent, 6), b"by TCP");
    assert_eq!(kernel.stat(Stat::Redirected).unwrap(), 0);
    held.pop();
    let flow = FlowKey::from_accepted(own, source, port);
    assert!(acceleration.join(flow, agent.as_fd(), 6).is_ok());
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_socket_that_the_full_map_does_not_take_goes_by_tcp() {
    let pod = Pod::new();
    pod.enrol(PodFlags::CAPTURED.with(PodFlags::ACCELERATES));
    pod.v4.set_nonblocking(false).unwrap();
    let acceleration = pod.kernel.acceleration().unwrap();
    // One socket fills it, under as many names.
    let (filler, _other, ..) = connection();
    let filler_at: SocketAddr = "10.0.0.1:1".parse().unwrap();
    for cookie in 0..u64::from(bounds::SOCKETS) {
        let flow = FlowKey::from_accepted(u64::MAX - cookie, filler_at, 1);
        let entered = acceleration.enter_application(flow, filler.as_fd());
        entered.unwrap_or_else(|error| panic!("{cookie}: {error}"));
    }
    let script = "s = socket.socket(); s.settimeout(10); c(s, '10.96.0.10', 80)\n\
                  s.sendall(b'1234'); print(s.recv(9))";
    let said = thread::scope(|scope| {
        let client = scope.spawn(|| pod.client(script));
        let (mut agent, source) = pod.v4.accept().unwrap();
        assert_eq!(read(&mut agent, 4), b"1234");
        let flow = FlowKey::from_accepted(pod.cookie, source, LISTENER_PORT);
        let joined = acceleration.join(flow, agent.as_fd(), 4);
        assert!(
            matches!(joined, Err(JoinError::Kernel { .. })),
            "{joined:?}"
        );
        agent.write_all(b"ok").unwrap();
        client.join().unwrap()
    });
    assert_eq!(said, "b'ok'");
    assert_eq!(pod.stat(Stat::AccelerationRefused), 1);
    assert_eq!(pod.stat(Stat::AccelerationEntered), 0);
    assert_eq!(pod.stat(Stat::Redirected), 0);
}
