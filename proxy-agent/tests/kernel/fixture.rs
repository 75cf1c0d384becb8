//! One pod made of a netns and a cgroup, and the programs attached to that cgroup.
//!
//! Clients are Python processes that enter the cgroup and then the netns, as a container's do.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use aya::maps::{HashMap, Map, MapData};
use proxy_agent::bpf::{DirectSet, Kernel, LoadOptions, ReconcileReport, Wanted, netns_cookie};
use proxy_ebpf::{FlowKey, FrontendKey, OrigDst, PodEntry, PodFlags, Settings, Stat, bounds};
use tracing::level_filters::LevelFilter;

/// Where the stand-in for the agent listens.
pub(crate) const LISTENER_PORT: u16 = 15001;
/// Service addresses that the programs know.
pub(crate) const SERVICES: [&str; 3] = ["10.96.0.10:80", "10.96.0.12:8080", "[fd00:96::10]:80"];
/// A Service address with the verdict pass.
pub(crate) const PASSED: &str = "10.96.0.11:80";
/// The pod's addresses.
const POD_IP: &str = "10.77.0.2";
const POD_IP6: &str = "fd00:77::2";

/// When a heartbeat is stale: never, as long as a test runs, be the machine as slow as an emulated one.
pub(crate) const STALE_AFTER_NS: u64 = 60_000_000_000;

/// What every client script starts with. `c` connects and says how it went.
const PRELUDE: &str = r#"
import ctypes, errno, os, socket, sys, time
V4, V6 = socket.AF_INET, socket.AF_INET6
def c(s, *a):
    try:
        s.connect(a)
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]
def peer(s):
    return "%s %d" % s.getpeername()[:2]
"#;

/// A netns and a cgroup of one name, removed on drop.
struct Place {
    netns: String,
    cgroup: PathBuf,
}

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let netns = format!("pak-{}-{number}", std::process::id());
        let cgroup = cgroup2().join(&netns);
        let place = Self { netns, cgroup };
        std::fs::create_dir(&place.cgroup).expect("make a cgroup");
        let netns = &place.netns;
        sh(&format!(
            "ip netns add {netns} && ip -n {netns} link set lo up \
             && ip -n {netns} link add eth0 type veth peer name eth0-peer \
             && ip -n {netns} link set eth0 up && ip -n {netns} link set eth0-peer up \
             && ip -n {netns} addr add {POD_IP}/32 dev eth0 \
             && ip -n {netns} addr add {POD_IP6}/128 dev eth0 nodad"
        ));
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let deleted = Command::new("ip")
            .args(["netns", "del", &self.netns])
            .status();
        let removed = std::fs::remove_dir(&self.cgroup);
        assert!(deleted.is_ok() && removed.is_ok() || thread::panicking());
    }
}

pub(crate) struct Pod {
    pub(crate) kernel: Kernel,
    pub(crate) cookie: u64,
    pub(crate) v4: TcpListener,
    pub(crate) v6: TcpListener,
    place: Place,
}

impl Pod {
    /// A captured pod whose agent has beaten just now.
    pub(crate) fn captured() -> Self {
        let pod = Self::new();
        pod.enrol(PodFlags::CAPTURED);
        pod
    }

    /// Programs attached and fed, the pod not yet in `PODS`.
    pub(crate) fn new() -> Self {
        Self::made(LevelFilter::OFF, bounds::CREDITS)
    }

    /// As [`Self::new`], with programs that log.
    pub(crate) fn logging(log_level: LevelFilter) -> Self {
        Self::made(log_level, 0)
    }

    /// As [`Self::new`], with room for so many accelerated connections.
    pub(crate) fn with_room_for(accelerated: u32) -> Self {
        Self::made(LevelFilter::OFF, accelerated)
    }

    fn made(log_level: LevelFilter, accelerated: u32) -> Self {
        let place = Place::new();
        let (v4, v6) = listen(&place.netns);
        let kernel = Kernel::load(&LoadOptions {
            object: None,
            log_level,
            accelerated,
        });
        let pod = Self {
            kernel: kernel.expect("load the programs"),
            cookie: netns_cookie(&v4).expect("a cookie"),
            v4,
            v6,
            place,
        };
        pod.prepare();
        let dir = pod.cgroup();
        pod.kernel.attach(dir.as_fd()).expect("attach");
        pod
    }

    /// Feeds the programs everything but the pod.
    fn prepare(&self) {
        self.settle(Settings::new(node_cookie(), 1, STALE_AFTER_NS, false));
        assert_eq!(self.steer([]).inserted, 4);
        let heartbeat = self.kernel.heartbeat(0).expect("a worker");
        heartbeat.beat().expect("beat");
    }

    /// Gives the programs `direct` addresses beside the usual ones, and takes former ones away.
    pub(crate) fn steer<const N: usize>(
        &self,
        direct: [(&str, &Arc<DirectSet>); N],
    ) -> ReconcileReport {
        let proxied = SERVICES.map(|text| (text, Wanted::Proxy));
        let direct = direct.map(|(text, set)| (text, Wanted::Direct(Arc::clone(set))));
        let wanted = proxied.into_iter().chain([(PASSED, Wanted::Pass)]);
        let wanted = wanted.chain(direct).map(|(text, wanted)| {
            let addr: SocketAddr = text.parse().expect("an address");
            (FrontendKey::from_socket_addr(addr), wanted)
        });
        let report = self.kernel.reconcile_frontends(&wanted.collect());
        report.expect("frontends")
    }

    /// Tells the programs about the agent.
    pub(crate) fn settle(&self, settings: Settings) {
        self.kernel.configure(settings).expect("configure");
    }

    /// Writes the pod's entry; both listeners are there.
    pub(crate) fn enrol(&self, flags: PodFlags) {
        let flags = flags.with(PodFlags::LISTENS_V4).with(PodFlags::LISTENS_V6);
        let entry = PodEntry::new(LISTENER_PORT, flags);
        self.kernel.set_pod(self.cookie, entry).expect("enrol");
    }

    /// Attaches another agent's programs in place of this one's, with everything that they go by.
    pub(crate) fn succeed(&mut self, successor: Kernel) {
        let former = std::mem::replace(&mut self.kernel, successor);
        self.prepare();
        self.enrol(PodFlags::CAPTURED);
        let links = former.lend_links().expect("links");
        let dir = self.cgroup();
        self.kernel.take_links(&dir, links).expect("take the links");
    }

    /// Runs a Python client in the pod; returns what it printed.
    pub(crate) fn client(&self, script: &str) -> String {
        Self::finish(self.client_command(script))
    }

    /// The command that runs a Python client in the pod.
    pub(crate) fn client_command(&self, script: &str) -> Command {
        let mut client = Command::new("sh");
        client
            .args([
                "-c",
                r#"echo $$ > "$0/cgroup.procs" && exec ip netns exec "$1" python3 -c "$2""#,
            ])
            .arg(&self.place.cgroup)
            .arg(&self.place.netns)
            .arg(format!("{PRELUDE}\n{script}"));
        client
    }

    /// Runs something in the pod's network namespace, in a thread of its own, outside of its cgroup.
    pub(crate) fn within<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let netns = File::open(format!("/run/netns/{}", self.place.netns)).expect("open the netns");
        let enter = move || {
            nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter");
            run()
        };
        thread::scope(|scope| scope.spawn(enter).join()).expect("run in the netns")
    }

    /// Runs a client; returns what it printed.
    pub(crate) fn finish(mut client: Command) -> String {
        let output = client.output().expect("run a client");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "client failed: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Accepts the next connection; returns what it was meant for.
    pub(crate) fn accept(&self, listener: &TcpListener) -> Option<SocketAddr> {
        let (_stream, source) = listener.accept().expect("a connection was steered here");
        let flow = FlowKey::from_accepted(self.cookie, source, LISTENER_PORT);
        let taken = self.kernel.orig_dst().take(&flow).expect("read ORIG_DST");
        taken.map(|dst| dst.socket_addr())
    }

    /// Leaves no room in the map of connections between connect and accept.
    pub(crate) fn fill_flows(&self) {
        let maps = self.kernel.lend_maps().expect("maps").into_iter();
        let maps = maps.map(|fd| Map::HashMap(MapData::from_fd(fd).expect("a map")));
        let mut flows = maps.filter_map(|map| HashMap::<_, FlowKey, OrigDst>::try_from(map).ok());
        let mut flows = flows.next().expect("ORIG_DST");
        for number in 0..bounds::ORIG_DST {
            let key = FlowKey::new(u64::MAX - u64::from(number), [0; 16], 1, 1);
            let none = OrigDst::new([0; 16], 1, 0);
            flows.insert(key, none, 0).expect("room");
        }
    }

    pub(crate) fn stat(&self, stat: Stat) -> u64 {
        self.kernel.stat(stat).expect("read STATS")
    }

    /// The pod's cgroup directory.
    pub(crate) fn cgroup(&self) -> File {
        File::open(&self.place.cgroup).expect("open the cgroup")
    }

    /// Id of the pod's cgroup.
    pub(crate) fn cgroup_id(&self) -> u64 {
        self.cgroup().metadata().expect("stat the cgroup").ino()
    }

    /// Entries in a map, by its name.
    pub(crate) fn entries(&self, map: &str) -> u64 {
        let status = self.kernel.status().expect("status");
        let found = status.maps.into_iter().find(|status| status.name == map);
        found.expect("the map is in status").entries
    }
}

/// Cookie of the netns that the tests run in.
pub(crate) fn node_cookie() -> u64 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket of the node");
    netns_cookie(&socket).expect("a cookie")
}

pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", script])
        .output()
        .expect("run sh");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Binds on both loopback addresses of a netns, from a thread that entered it.
fn listen(netns: &str) -> (TcpListener, TcpListener) {
    let netns = File::open(format!("/run/netns/{netns}")).expect("open the netns");
    let bind = move || {
        nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter the netns");
        let bind = |host: &str| TcpListener::bind((host, LISTENER_PORT)).expect("bind");
        let listeners = (bind("127.0.0.1"), bind("::1"));
        listeners.0.set_nonblocking(true).expect("non-blocking");
        listeners.1.set_nonblocking(true).expect("non-blocking");
        listeners
    };
    thread::spawn(bind).join().expect("bind in the netns")
}

fn cgroup2() -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("read mounts");
    let mut mounts = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|fields| fields.get(2) == Some(&"cgroup2"));
    PathBuf::from(mount.expect("a cgroup2 mount")[1])
}
