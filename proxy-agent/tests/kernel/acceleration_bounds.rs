//! Acceleration at its bounds: what does not fit goes by TCP, and is counted.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::thread;

use proxy_agent::bpf::JoinError;
use proxy_ebpf::{End, FlowKey, PodFlags, Stat};

use crate::acceleration::{accepted, connection, kernel_for, read};
use crate::fixture::{LISTENER_PORT, Pod};

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn one_more_than_there_are_credits_goes_by_tcp() {
    const CREDITS: u32 = 3;
    let kernel = kernel_for(CREDITS);
    let acceleration = kernel.acceleration().unwrap();
    let mut connections: Vec<_> = (0..=CREDITS).map(|_| connection()).collect();
    let join = |of: usize| {
        let (_, agent, source, port) = &connections[of];
        let flow = FlowKey::from_accepted(7, *source, *port);
        acceleration.join(flow, agent.as_fd(), 0)
    };
    let mut held: Vec<_> = (0..3).map(|of| join(of).expect("a credit")).collect();
    assert_eq!(acceleration.connections(), (3, 3));
    assert!(matches!(join(3), Err(JoinError::NoCredit)));
    held.pop();
    drop(join(3).expect("the one that was given back"));
    assert_eq!(acceleration.connections(), (2, 4));
    // They go on as they were.
    for (application, agent, ..) in &mut connections {
        application.write_all(b"by TCP").unwrap();
        assert_eq!(read(agent, 6), b"by TCP");
    }
    assert_eq!(kernel.stat(Stat::Redirected).unwrap(), 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_socket_that_the_full_map_does_not_take_goes_by_tcp() {
    let pod = Pod::with_room_for(1);
    pod.enrol(PodFlags::CAPTURED.with(PodFlags::ACCELERATES));
    let acceleration = pod.kernel.acceleration().unwrap();
    let mut fillers = Vec::new();
    let filler_at: SocketAddr = "10.0.0.1:1".parse().unwrap();
    let full = loop {
        let filler = connection();
        let cookie = u64::MAX - fillers.len() as u64;
        let flow = FlowKey::from_accepted(cookie, filler_at, 1);
        let entered = acceleration.enter_pods_end(flow, End::Application, filler.0.as_fd());
        fillers.push(filler);
        if let Err(error) = entered {
            break error;
        }
    };
    assert!(matches!(full, JoinError::Kernel { .. }));
    assert_eq!(fillers.len(), 8 + 1, "{full}");
    let script = "s = socket.socket(); s.settimeout(10); c(s, '10.96.0.10', 80)\n\
                  s.sendall(b'1234'); print(s.recv(9))";
    let said = thread::scope(|scope| {
        let client = scope.spawn(|| pod.client(script));
        let mut agent = accepted(&pod);
        let source = agent.peer_addr().unwrap();
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
