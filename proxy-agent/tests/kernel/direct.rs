//! Direct connections: real ones, from the pod to endpoints of its own, which is hairpin as well.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use proxy_agent::bpf::{DirectSet, Kernel, LoadOptions, SharedMaps};
use proxy_ebpf::{Choice, EndpointKey, EndpointState, PodFlags, Settings, Stat, map};
use tracing::level_filters::LevelFilter;

use crate::fixture::{Pod, STALE_AFTER_NS, node_cookie};

const V4: &str = "10.96.1.1:80";
const V6: &str = "[fd00:96::1:1]:80";

/// `up` listens on ports of the pod's own addresses; `ask` connects and tells which port answered.
pub(crate) const SERVERS: &str = r#"
import collections, threading
def up(port, host='10.77.0.2', hold=True):
    l = socket.socket(V6 if ':' in host else V4)
    l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    l.bind((host, port)); l.listen(512)
    def run():
        while True:
            x = l.accept()[0]
            x.sendall(b'%d' % port)
            if hold: open_.append(x)
            else: x.close()
    threading.Thread(target=run, daemon=True).start()
    return l
open_ = []
def ask(keep=False, host='10.96.1.1', family=V4):
    s = socket.socket(family); s.settimeout(5)
    said = c(s, host, 80)
    if said != 'ok': return said
    port = int(s.recv(9))
    if keep: kept.append(s)
    else: s.close()
    return port
kept = []
"#;

pub(crate) fn set(ports: &[u16]) -> DirectSet {
    let addresses = ports.iter().map(|port| format!("10.77.0.2:{port}"));
    of(addresses.collect())
}

pub(crate) fn of(addresses: Vec<String>) -> DirectSet {
    let addresses = addresses.iter().map(|text| text.parse().unwrap());
    DirectSet {
        endpoints: addresses.map(EndpointKey::from_socket_addr).collect(),
        ..DirectSet::default()
    }
}

/// A captured pod with one direct Service.
pub(crate) fn pod(set: DirectSet) -> (Pod, Arc<DirectSet>) {
    let (pod, set) = (Pod::captured(), Arc::new(set));
    pod.steer([(V4, &set)]);
    (pod, set)
}

pub(crate) fn client(pod: &Pod, script: &str) -> String {
    pod.kernel.heartbeat(0).unwrap().beat().unwrap();
    pod.client(&format!("{SERVERS}\n{script}"))
}

pub(crate) fn state(pod: &Pod, endpoint: &str) -> EndpointState {
    let states = pod.kernel.endpoints().unwrap();
    let state = states.get(&endpoint.parse().unwrap());
    state.copied().unwrap_or_default()
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_connection_goes_straight_to_an_endpoint_and_shows_the_service() {
    let (pod, _set) = pod(set(&[9001]));
    let said = client(
        &pod,
        "up(9001); s = socket.socket(); print(c(s, '10.96.1.1', 80), peer(s), s.recv(9))",
    );
    assert_eq!(said, "ok 10.96.1.1 80 b'9001'");
    assert_eq!((pod.stat(Stat::Direct), pod.stat(Stat::Proxied)), (1, 0));
    assert_eq!(pod.stat(Stat::DirectEstablished), 1);
    // The control: the address is nobody's without the programs.
    pod.kernel.detach();
    let said = client(&pod, "up(9001); print(ask())");
    assert_ne!(said, "9001");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn ipv6_and_v4_mapped_connections_go_straight_to_an_endpoint() {
    let (pod, v4) = pod(set(&[9001]));
    let v6 = Arc::new(of(vec!["[fd00:77::2]:9002".to_owned()]));
    pod.steer([(V4, &v4), (V6, &v6)]);
    let said = client(
        &pod,
        "up(9001); up(9002, 'fd00:77::2')\n\
         s = socket.socket(V6); print(c(s, 'fd00:96::1:1', 80), peer(s), s.recv(9))\n\
         s = socket.socket(V6); print(c(s, '::ffff:10.96.1.1', 80), peer(s), s.recv(9))",
    );
    let expected = "ok fd00:96::1:1 80 b'9002'\nok ::ffff:10.96.1.1 80 b'9001'";
    assert_eq!(said, expected);
    assert_eq!(state(&pod, "[fd00:77::2]:9002").connected, 1);
    assert_eq!(state(&pod, "10.77.0.2:9001").connected, 1);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn without_an_endpoint_a_connection_is_refused_at_once() {
    let (pod, _set) = pod(set(&[]));
    assert_eq!(client(&pod, "print(ask())"), "ECONNREFUSED");
    assert_eq!(pod.stat(Stat::RefusedNoEndpoint), 1);
    assert_eq!(pod.stat(Stat::Direct), 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn in_turn_means_each_as_often_as_the_others() {
    let (pod, _set) = pod(DirectSet {
        choice: Choice::RoundRobin,
        ..set(&[9001, 9002, 9003])
    });
    let said = client(
        &pod,
        "for p in (9001, 9002, 9003): up(p)\n\
         print(sorted(collections.Counter(ask() for _ in range(30)).values()))",
    );
    assert_eq!(said, "[10, 10, 10]");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn at_random_reaches_every_endpoint_without_favour() {
    let (pod, _set) = pod(DirectSet {
        choice: Choice::Random,
        ..set(&[9001, 9002, 9003])
    });
    let said = client(
        &pod,
        "for p in (9001, 9002, 9003): up(p)\n\
         n = collections.Counter(ask() for _ in range(900))\n\
         print(sum((x - 300) ** 2 / 300 for x in n.values()))",
    );
    // 0.9999 quantile of the chi-squared distribution with two degrees of freedom.
    let chi_squared: f64 = said.parse().unwrap();
    assert!(chi_squared < 18.42, "{chi_squared}");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn of_two_endpoints_the_one_with_fewer_connections_is_taken() {
    let (pod, both) = pod(set(&[9001, 9002]));
    let one = Arc::new(set(&[9001]));
    pod.steer([(V4, &one), ("10.96.1.2:80", &both)]);
    let said = client(
        &pod,
        "up(9001); up(9002)\n\
         for _ in range(8): ask(keep=True)\n\
         print([ask(keep=True, host='10.96.1.2') for _ in range(8)])\n\
         print(len(set(ask(keep=True, host='10.96.1.2') for _ in range(40))))",
    );
    assert_eq!(said, format!("{:?}\n2", [9002; 8]));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn connections_are_counted_until_they_end_however_that_comes() {
    let (pod, _set) = pod(set(&[9001]));
    let open = || state(&pod, "10.77.0.2:9001").open;
    client(
        &pod,
        "up(9001)\n\
         import struct\n\
         def reset(s): s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()\n\
         for _ in range(6): ask(keep=True)\n\
         reset(kept[0]); kept[1].close(); reset(open_[2]); open_[3].close(); kept[3].close()",
    );
    // The process has ended, and the kernel closed what it had open.
    assert_eq!(open(), 0);
    let said = client(
        &pod,
        "pid = os.fork()\n\
         if pid == 0: up(9001); [ask(keep=True) for _ in range(3)]; os.kill(os.getpid(), 9)\n\
         print(os.waitpid(pid, 0)[1])",
    );
    assert_eq!(said, "9", "killed");
    assert_eq!(open(), 0);
    assert_eq!(state(&pod, "10.77.0.2:9001").connected, 9);
    assert_eq!(pod.stat(Stat::DirectUncounted), 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn open_connections_are_counted_and_the_next_agent_goes_on_counting() {
    const SIGNS: &str = "\n\
        def wait(n):\n\
        \x20 while not os.path.exists(base + n): time.sleep(0.002)\n";
    let (mut pod, set) = pod(set(&[9001]));
    let base = std::env::temp_dir().join(format!("pak-direct-{}-", std::process::id()));
    let base = base.to_str().unwrap().to_owned();
    let script = format!(
        "base = {base:?}{SIGNS}up(9001)\n\
         for _ in range(3): ask(keep=True)\n\
         open(base + 'open', 'w').close(); wait('succeeded')\n\
         kept[0].close(); print(peer(kept[1]), ask())"
    );
    let sign = |name: &str| std::path::PathBuf::from(format!("{base}{name}"));
    thread::scope(|scope| {
        let command = pod.client_command(&format!("{SERVERS}\n{script}"));
        let client = scope.spawn(move || Pod::finish(command));
        while !sign("open").exists() {
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(state(&pod, "10.77.0.2:9001").open, 3);
        let maps = SharedMaps::check(pod.kernel.lend_maps().unwrap()).unwrap();
        let options = LoadOptions {
            object: None,
            log_level: LevelFilter::OFF,
            accelerated: 0,
        };
        pod.succeed(Kernel::load_sharing(&options, &maps).unwrap());
        pod.steer([(V4, &set)]);
        std::fs::write(sign("succeeded"), "").unwrap();
        assert_eq!(client.join().unwrap(), "10.96.1.1 80 9001");
    });
    for name in ["open", "succeeded"] {
        std::fs::remove_file(sign(name)).unwrap();
    }
    let state = state(&pod, "10.77.0.2:9001");
    assert_eq!(
        (state.open, state.connected),
        (0, 4),
        "neither lost nor below 0"
    );
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn failures_are_told_apart_from_an_application_that_gives_up() {
    let (pod, _set) = pod(set(&[9001]));
    let refused = client(&pod, "print([ask() for _ in range(3)])");
    assert_eq!(refused, "['ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED']");
    let after = state(&pod, "10.77.0.2:9001");
    assert_eq!((after.refused, after.unreachable, after.streak), (3, 0, 3));
    assert_eq!((after.open, after.connected), (0, 0));

    // Nobody answers: the queue of a listener that does not accept is full.
    let said = client(
        &pod,
        "l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         l.bind(('10.77.0.2', 9001)); l.listen(0)\n\
         full = [socket.socket() for _ in range(4)]\n\
         for x in full: x.setblocking(False); c(x, '10.96.1.1', 80)\n\
         time.sleep(0.1)\n\
         s = socket.socket(); s.settimeout(0.2)\n\
         try: s.connect(('10.96.1.1', 80))\n\
         except TimeoutError: print('gave up')\n\
         s.close()\n\
         s = socket.socket(); s.setsockopt(socket.IPPROTO_TCP, 18, 500); print(c(s, '10.96.1.1', 80))",
    );
    assert_eq!(said, "gave up\nETIMEDOUT");
    let after = state(&pod, "10.77.0.2:9001");
    assert_eq!((after.refused, after.unreachable), (3, 1), "{after:?}");
    assert_eq!(after.open, 0);
    assert!(pod.stat(Stat::DirectAborted) >= 1);
    assert_eq!(pod.stat(Stat::DirectFailed), 4);

    // One that succeeds ends the row of failures.
    assert_eq!(client(&pod, "up(9001); print(ask())"), "9001");
    let after = state(&pod, "10.77.0.2:9001");
    assert_eq!(after.streak, 0);
    assert!(after.connect_ns > 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_pod_stays_with_its_endpoint_as_long_as_the_set_has_it_and_the_time_lasts() {
    let sticky = |ports: &[u16], affinity_s| {
        Arc::new(DirectSet {
            affinity_s,
            choice: Choice::RoundRobin,
            ..set(ports)
        })
    };
    let all = [9001, 9002, 9003];
    let (pod, _set) = pod(set(&all));
    let servers = "for p in (9001, 9002, 9003): up(p)\n";
    let asked = |script: &str| client(&pod, &format!("{servers}{script}"));

    pod.steer([(V4, &sticky(&all, 600))]);
    let first: u16 = asked("print(ask())").parse().unwrap();
    let again = asked("print(set(ask() for _ in range(9)))");
    assert_eq!(again, format!("{{{first}}}"));

    // Another set that has it makes no difference, nor does the order.
    let others: Vec<u16> = all.into_iter().filter(|port| *port != first).collect();
    pod.steer([(V4, &sticky(&[others[0], first], 600))]);
    assert_eq!(asked("print(ask())"), first.to_string());

    // Without it another one is chosen, and kept.
    pod.steer([(V4, &sticky(&others, 600))]);
    let second: u16 = asked("print(ask())").parse().unwrap();
    assert!(others.contains(&second));
    pod.steer([(V4, &sticky(&all, 600))]);
    let again = asked("print(set(ask() for _ in range(6)))");
    assert_eq!(again, format!("{{{second}}}"));
    assert_eq!(pod.entries(map::AFFINITY), 1);

    // Time out: a second without a connection, and each comes in turn.
    pod.steer([(V4, &sticky(&all, 1))]);
    let turns = asked(
        "ask()\n\
         def late(): time.sleep(1.05); return ask()\n\
         print(len(set(late() for _ in range(3))))",
    );
    assert_eq!(turns, "3");
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(pod.kernel.sweep_direct().unwrap().affinities, 1);
    assert_eq!(pod.entries(map::AFFINITY), 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn no_connection_sees_a_set_that_is_not_whole() {
    let (pod, _set) = pod(set(&[9001, 9002]));
    let stop = std::env::temp_dir().join(format!("pak-sets-{}", std::process::id()));
    let script = format!(
        "for p in range(9001, 9005): up(p, hold=False)\n\
         stop = {stop:?}; n = collections.Counter()\n\
         while not os.path.exists(stop): n[ask()] += 1\n\
         print(sorted(n)); print(sum(n.values()))"
    );
    let said = thread::scope(|scope| {
        let command = pod.client_command(&format!("{SERVERS}\n{script}"));
        let client = scope.spawn(move || Pod::finish(command));
        while pod.stat(Stat::DirectEstablished) == 0 {
            thread::sleep(Duration::from_millis(2));
        }
        let sets = [
            &[9001, 9002][..],
            &[9003, 9004],
            &[9002],
            &[9001, 9002, 9003, 9004],
        ];
        for round in 0..400 {
            pod.steer([(V4, &Arc::new(set(sets[round % 4])))]);
            pod.kernel.heartbeat(0).unwrap().beat().unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        std::fs::write(&stop, "").unwrap();
        client.join().unwrap()
    });
    std::fs::remove_file(&stop).unwrap();
    let (ports, count) = said.split_once('\n').unwrap();
    assert_eq!(ports, "[9001, 9002, 9003, 9004]");
    assert!(count.parse::<u64>().unwrap() > 100, "{count}");
    assert_eq!(pod.stat(Stat::PassedSetGone), 0);
    thread::sleep(Duration::from_millis(1_100));
    pod.kernel.sweep_direct().unwrap();
    assert_eq!(pod.entries(map::SLOTS), 4, "former sets go");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn an_endpoint_that_is_gone_is_forgotten_with_its_last_connection() {
    let (pod, _set) = pod(set(&[9001]));
    client(&pod, "up(9001); ask()");
    assert_eq!(pod.kernel.sweep_direct().unwrap().endpoints, 0);
    assert_eq!(pod.entries(map::ENDPOINTS), 1);
    pod.steer([(V4, &Arc::new(set(&[9002])))]);
    let swept = pod.kernel.sweep_direct().unwrap().endpoints;
    assert_eq!(swept, 0, "a connection may be choosing from the former set");
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(pod.kernel.sweep_direct().unwrap().endpoints, 1);
    assert_eq!(pod.entries(map::ENDPOINTS), 0);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_stale_heartbeat_passes_direct_connections_too() {
    let (pod, _set) = pod(set(&[9001]));
    pod.settle(Settings::new(node_cookie(), 1, 0, false));
    assert_ne!(client(&pod, "up(9001); print(ask())"), "9001");
    assert_eq!(pod.stat(Stat::PassedStale), 1);
    pod.enrol(PodFlags::CAPTURED.with(PodFlags::FAIL_CLOSED));
    assert_eq!(client(&pod, "up(9001); print(ask())"), "ECONNREFUSED");
    pod.settle(Settings::new(node_cookie(), 1, STALE_AFTER_NS, false));
    pod.kernel.heartbeat(0).unwrap().beat().unwrap();
    assert_eq!(
        client(&pod, "up(9001); print(ask())"),
        "9001",
        "the control"
    );
}
