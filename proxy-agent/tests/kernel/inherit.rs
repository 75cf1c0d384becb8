//! What one agent's programs leave to the next one's: destinations, and the links.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use proxy_agent::bpf::{InheritError, Kernel, LoadError, LoadOptions, SharedMaps};
use proxy_ebpf::Stat;
use tracing::level_filters::LevelFilter;

use crate::fixture::Pod;

const OPTIONS: LoadOptions = LoadOptions {
    object: None,
    log_level: LevelFilter::OFF,
    accelerated: 0,
};

fn shared(kernel: &Kernel) -> SharedMaps {
    let maps = kernel.lend_maps().unwrap();
    SharedMaps::check(maps).unwrap()
}

/// A file by which a client and a test tell each other how far they are.
struct Sign(PathBuf);

impl Sign {
    fn new(name: &str) -> Self {
        let name = format!("proxy-agent-kernel-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn give(&self) {
        fs::write(&self.0, "").unwrap();
    }

    fn wait(&self) {
        let limit = Instant::now() + Duration::from_secs(10);
        while !self.0.exists() {
            assert!(Instant::now() < limit, "{} never came", self.0.display());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Sign {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// Has a client connect under one agent's programs, and ask under the next one's who is at the
/// other end. Returns its answer, and the pod under the second agent.
fn connect_then_succeed(name: &str, successor: impl FnOnce(&Kernel) -> Kernel) -> (String, Pod) {
    let mut pod = Pod::captured();
    let (connected, succeeded) = (
        Sign::new(&format!("{name}-connected")),
        Sign::new(&format!("{name}-succeeded")),
    );
    let script = format!(
        "s = socket.socket()\n\
         assert c(s, '10.96.0.10', 80) == 'ok'\n\
         open({:?}, 'w').close()\n\
         while not os.path.exists({:?}): time.sleep(0.002)\n\
         print(peer(s))",
        connected.0, succeeded.0
    );
    let answer = thread::scope(|scope| {
        let client = pod.client_command(&script);
        let client = scope.spawn(move || Pod::finish(client));
        connected.wait();
        let next = successor(&pod.kernel);
        pod.succeed(next);
        succeeded.give();
        client.join().unwrap()
    });
    (answer, pod)
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_connection_keeps_its_destination_under_the_next_agent() {
    let share = |former: &Kernel| Kernel::load_sharing(&OPTIONS, &shared(former)).unwrap();
    let (peer, pod) = connect_then_succeed("shared", share);
    assert_eq!(peer, "10.96.0.10 80");
    let destination = pod.accept(&pod.v4);
    assert_eq!(destination, Some("10.96.0.10:80".parse().unwrap()));

    // The control: maps of its own know nothing of it.
    let own = |_former: &Kernel| Kernel::load(&OPTIONS).unwrap();
    let (peer, pod) = connect_then_succeed("own", own);
    assert_eq!(peer, "127.0.0.1 15001");
    assert_eq!(pod.accept(&pod.v4), None);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn links_run_the_next_agents_programs_and_can_be_taken_back() {
    let pod = Pod::captured();
    let next = Kernel::load_sharing(&OPTIONS, &shared(&pod.kernel)).unwrap();
    let links = pod.kernel.lend_links().unwrap();
    next.take_links(&pod.cgroup(), links).unwrap();
    assert!(next.attached().iter().all(|program| program.attached));
    assert!(!pod.kernel.attached().iter().any(|program| program.attached));

    pod.kernel.reclaim_links().unwrap();
    assert!(pod.kernel.attached().iter().all(|program| program.attached));
    assert!(!next.attached().iter().any(|program| program.attached));
    drop(next);
    let connects = "print(c(socket.socket(), '10.96.0.10', 80))";
    assert_eq!(pod.client(connects), "ok");
    assert_eq!(pod.stat(Stat::Proxied), 1);
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn what_is_no_link_of_this_cgroup_and_hook_is_not_taken() {
    let (pod, other) = (Pod::captured(), Pod::captured());
    let next = Kernel::load(&OPTIONS).unwrap();
    let refused = |links: Vec<OwnedFd>| match next.take_links(&pod.cgroup(), links) {
        Err(LoadError::Inherit(error)) => error,
        other => panic!("taken: {other:?}"),
    };
    let links = other.kernel.lend_links().unwrap();
    assert!(matches!(
        refused(links),
        InheritError::OtherLink { name: "connect4" }
    ));
    let mut links = pod.kernel.lend_links().unwrap();
    links.swap(0, 1);
    assert!(matches!(
        refused(links),
        InheritError::OtherLink { name: "connect4" }
    ));
    let mut links = pod.kernel.lend_links().unwrap();
    links.pop();
    assert!(matches!(
        refused(links),
        InheritError::Count {
            found: 5,
            wanted: 6
        }
    ));
    let programs = pod.kernel.attached();
    assert!(programs.iter().all(|program| program.attached), "unharmed");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn maps_that_are_not_those_are_not_shared() {
    let kernel = Kernel::load(&OPTIONS).unwrap();
    let lent = || kernel.lend_maps().unwrap();
    assert!(SharedMaps::check(lent()).is_ok(), "the control");
    let wrong = |swap: (usize, usize)| {
        let mut maps: Vec<OwnedFd> = lent();
        maps.swap(swap.0, swap.1);
        SharedMaps::check(maps)
    };
    for swap in [(0, 1), (1, 2), (2, 3)] {
        let wrong = wrong(swap);
        assert!(
            matches!(wrong, Err(InheritError::OtherMap { .. })),
            "{wrong:?}"
        );
    }
    let fewer = SharedMaps::check(lent().split_off(1));
    assert!(
        matches!(fewer, Err(InheritError::Count { .. })),
        "{fewer:?}"
    );
}
