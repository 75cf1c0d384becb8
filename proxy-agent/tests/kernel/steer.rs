//! Connections of every kind that go to the agent, and what the application sees of it.

use std::io::Read;
use std::thread;

use proxy_ebpf::{FlowKey, Stat, map};

use crate::acceleration::accepted;
use crate::addr;
use crate::fixture::{LISTENER_PORT, Pod};

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_ipv4_connection_is_steered_and_keeps_its_destination() {
    let pod = Pod::captured();
    let said = pod.client("s = socket.socket(); print(c(s, '10.96.0.10', 80), peer(s))");
    assert_eq!(said, "ok 10.96.0.10 80");
    assert_eq!(pod.accept(&pod.v4), addr("10.96.0.10:80"));
    assert_eq!((pod.stat(Stat::Proxied), pod.stat(Stat::FlowBound)), (1, 1));
    assert_eq!(pod.entries(map::ORIG_DST), 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_ipv6_connection_is_steered_and_keeps_its_destination() {
    let pod = Pod::captured();
    let said = pod.client("s = socket.socket(V6); print(c(s, 'fd00:96::10', 80), peer(s))");
    assert_eq!(said, "ok fd00:96::10 80");
    assert_eq!(pod.accept(&pod.v6), addr("[fd00:96::10]:80"));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_v4_mapped_connection_is_an_ipv4_one() {
    let pod = Pod::captured();
    let said = pod.client("s = socket.socket(V6); print(c(s, '::ffff:10.96.0.10', 80), peer(s))");
    assert_eq!(said, "ok ::ffff:10.96.0.10 80");
    assert_eq!(pod.accept(&pod.v4), addr("10.96.0.10:80"));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_non_blocking_connect_is_steered() {
    let pod = Pod::captured();
    let said = pod.client(
        "import select\n\
         s = socket.socket(); s.setblocking(False); first = c(s, '10.96.0.10', 80)\n\
         select.select([], [s], [], 5); print(first in ('ok', 'EINPROGRESS'), peer(s))",
    );
    assert_eq!(said, "True 10.96.0.10 80");
    assert_eq!(pod.accept(&pod.v4), addr("10.96.0.10:80"));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_socket_bound_before_connect_is_steered_with_its_source() {
    for (family, source, target) in [
        ("V4", "127.0.0.1", "10.96.0.10"),
        ("V4", "10.77.0.2", "10.96.0.10"),
        ("V4", "0.0.0.0", "10.96.0.10"),
        ("V6", "::ffff:10.77.0.2", "::ffff:10.96.0.10"),
        ("V6", "::", "::ffff:10.96.0.10"),
        ("V6", "::1", "fd00:96::10"),
        ("V6", "fd00:77::2", "fd00:96::10"),
        ("V6", "::", "fd00:96::10"),
    ] {
        let pod = Pod::captured();
        let said = pod.client(&format!(
            "s = socket.socket({family}); s.bind(('{source}', 40123))\n\
             print(c(s, '{target}', 80), peer(s), s.getsockname()[1])"
        ));
        assert_eq!(said, format!("ok {target} 80 40123"), "bound to {source}");
        let (listener, asked) = match target {
            "fd00:96::10" => (&pod.v6, "[fd00:96::10]:80"),
            _ => (&pod.v4, "10.96.0.10:80"),
        };
        assert_eq!(pod.accept(listener), addr(asked), "bound to {source}");
    }
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn fast_open_is_steered() {
    let pod = Pod::captured();
    let said = pod.client(
        "s = socket.socket(); s.sendto(b'x', 0x20000000, ('10.96.0.10', 80)); print(peer(s))",
    );
    assert_eq!(said, "10.96.0.10 80");
    assert_eq!(pod.accept(&pod.v4), addr("10.96.0.10:80"));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_socket_that_is_dissolved_and_connected_elsewhere_forgets_the_service() {
    let pod = Pod::captured();
    let said = pod.client(
        "other = socket.socket(); other.bind(('127.0.0.1', 7000)); other.listen()\n\
         s = socket.socket(); print(c(s, '10.96.0.10', 80), peer(s))\n\
         print(ctypes.CDLL(None).connect(s.fileno(), b'\\0' * 16, 16))\n\
         print(c(s, '127.0.0.1', 7000), peer(s))\n\
         print(ctypes.CDLL(None).connect(s.fileno(), b'\\0' * 16, 16))\n\
         print(c(s, '10.96.0.10', 80), peer(s))",
    );
    let said: Vec<_> = said.lines().collect();
    let service = "ok 10.96.0.10 80";
    assert_eq!(said, [service, "0", "ok 127.0.0.1 7000", "0", service]);
    assert_eq!(pod.stat(Stat::PassedNoFrontend), 1);
    assert_eq!(pod.stat(Stat::Proxied), 2);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn each_of_many_connections_at_once_keeps_its_own_destination() {
    const CONNECTIONS: usize = 2_000;
    let pod = Pod::captured();
    // Every client says where it meant to go; whoever accepts compares.
    let script = "import threading\n\
        def run(host, port):\n\
        \x20 for _ in range(500):\n\
        \x20   s = socket.create_connection((host, port)); s.sendall(b'%s:%d' % (host.encode(), port))\n\
        \x20   s.shutdown(1); s.recv(1); s.close()\n\
        to = [('10.96.0.10', 80), ('10.96.0.12', 8080)] * 2\n\
        all = [threading.Thread(target=run, args=a) for a in to]\n\
        for t in all: t.start()\n\
        for t in all: t.join()\n\
        print('done')";
    thread::scope(|scope| {
        let client = scope.spawn(|| pod.client(script));
        for _ in 0..CONNECTIONS {
            let mut stream = accepted(&pod);
            let source = stream.peer_addr().unwrap();
            let flow = FlowKey::from_accepted(pod.cookie, source, LISTENER_PORT);
            let taken = pod.kernel.orig_dst().take(&flow).unwrap().unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert_eq!(taken.socket_addr().to_string(), said);
        }
        assert_eq!(client.join().unwrap(), "done");
    });
    assert_eq!(pod.entries(map::ORIG_DST), 0);
    assert_eq!(pod.stat(Stat::FlowAborted), 0);
}
