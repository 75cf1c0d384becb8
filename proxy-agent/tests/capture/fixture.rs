//! A kubepods tree of its own with processes in network namespaces, removed on drop.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proxy_agent::capture::{
    Ack, BoxError, Capture, CaptureStatus, Enrol, Error, FirstLook, Inherited, Serve, ServedPod,
    Surroundings, cgroup,
};
use proxy_agent::model::{Accelerates, CaptureDecision, Pod, Snapshot};
use proxy_agent::net::Netns;
use proxy_agent::status::PodStatus;
use proxy_ebpf::PodEntry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub(crate) const CAPTURE: CaptureDecision = CaptureDecision::Capture {
    fail_closed: false,
    avoid_sidecar_ports: false,
    accelerates: Accelerates::Nothing,
};

pub(crate) const FAIL_CLOSED: CaptureDecision = CaptureDecision::Capture {
    fail_closed: true,
    avoid_sidecar_ports: false,
    accelerates: Accelerates::Nothing,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test while no other one has a runtime: files and threads of this process are counted.
pub(crate) fn alone(test: impl Future<Output = ()>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(test);
}

/// What capture did to the kernel side and to the proxy, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Set(u64, PodEntry),
    Removed(u64),
    Served(String, usize, usize),
    Released(String),
}

/// Stands in for the map and for the proxy: keeps the listeners open, never accepts.
#[derive(Debug)]
pub(crate) struct Recorder {
    events: watch::Sender<Vec<Event>>,
    served: Mutex<Vec<ServedPod>>,
    /// Answers of `serve` that fail before one succeeds.
    pub(crate) refusals: AtomicU32,
    /// Answers of `set_pod` that fail before one succeeds.
    pub(crate) map_refusals: AtomicU32,
    /// Ends when `serve` is called: the pod dies in the middle of its enrolment.
    pub(crate) victim: Mutex<Option<Process>>,
}

impl Recorder {
    fn record(&self, event: Event) {
        self.events.send_modify(|events| events.push(event));
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// Waits until the events are as `wanted` says.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Vec<Event>) -> bool) -> Vec<Event> {
        let mut events = self.events.subscribe();
        match timeout(PATIENCE, events.wait_for(wanted)).await {
            Ok(seen) => seen.unwrap().clone(),
            Err(_elapsed) => panic!("never came: {:?}", self.events()),
        }
    }

    pub(crate) fn served(&self) -> MutexGuard<'_, Vec<ServedPod>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count_down(left: &AtomicU32) -> bool {
    let less = |left: u32| left.checked_sub(1);
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok()
}

impl Enrol for Recorder {
    fn set_pod(&self, cookie: u64, entry: PodEntry, _: &[IpAddr]) -> Result<(), BoxError> {
        if count_down(&self.map_refusals) {
            return Err(BoxError::from("map full"));
        }
        self.record(Event::Set(cookie, entry));
        Ok(())
    }

    fn remove_pod(&self, cookie: u64) -> Result<(), BoxError> {
        self.record(Event::Removed(cookie));
        Ok(())
    }
}

impl Serve for Recorder {
    fn serve(&self, pod: ServedPod) -> Ack {
        drop(self.victim.lock().unwrap().take());
        if count_down(&self.refusals) {
            return Box::pin(async { Err(BoxError::from("no room")) });
        }
        let (v4, v6) = (pod.listeners.v4.len(), pod.listeners.v6.len());
        let uid = pod.uid.to_string();
        self.served().push(pod);
        self.record(Event::Served(uid, v4, v6));
        Box::pin(async { Ok(()) })
    }

    fn release(&self, uid: &Arc<str>) -> Ack {
        self.served().retain(|pod| pod.uid != *uid);
        self.record(Event::Released(uid.to_string()));
        Box::pin(async { Ok(()) })
    }
}

/// A running capture on a root of its own.
pub(crate) struct Fixture {
    pub(crate) root: Tree,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) status: CaptureStatus,
    snapshots: watch::Sender<Arc<Snapshot>>,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

impl Fixture {
    pub(crate) fn start() -> Self {
        let root = Tree::new();
        let recorder = Arc::new(Recorder {
            events: watch::Sender::new(Vec::new()),
            served: Mutex::default(),
            refusals: AtomicU32::new(0),
            map_refusals: AtomicU32::new(0),
            victim: Mutex::default(),
        });
        let status = CaptureStatus::default();
        let (snapshots, receiver) = watch::channel(Arc::new(Snapshot::empty()));
        let shutdown = CancellationToken::new();
        let capture = Capture {
            root: root.path.clone(),
            workers: 2,
            surroundings: Surroundings::look(&root.path).unwrap(),
            enrol: Arc::clone(&recorder) as Arc<dyn Enrol>,
            serve: Arc::clone(&recorder) as Arc<dyn Serve>,
            status: status.clone(),
            inherited: Inherited::default(),
            first_look: FirstLook::default(),
        };
        let running = tokio::spawn(capture.run(receiver, shutdown.clone()));
        Self {
            root,
            recorder,
            status,
            snapshots,
            shutdown,
            running,
        }
    }

    /// Decides about a pod; `None` makes it unknown.
    pub(crate) fn decide(&self, uid: &str, decision: Option<CaptureDecision>) {
        self.snapshots.send_modify(|snapshot| {
            let mut next = Snapshot::clone(snapshot);
            next.version += 1;
            Arc::make_mut(&mut next.pods).remove(uid);
            if let Some(capture) = decision {
                let pod = Pod {
                    uid: uid.into(),
                    namespace: "shop".into(),
                    name: format!("name-of-{uid}").into(),
                    ips: Vec::new(),
                    capture,
                };
                Arc::make_mut(&mut next.pods).insert(uid.into(), Arc::new(pod));
            }
            *snapshot = Arc::new(next);
        });
    }

    /// Waits until the pod's row is as `wanted` says.
    pub(crate) async fn pod(&self, uid: &str, wanted: impl Fn(&PodStatus) -> bool) -> PodStatus {
        let started = Instant::now();
        loop {
            let found = self.row(uid);
            match found {
                Some(row) if wanted(&row) => return row,
                row if started.elapsed() > PATIENCE => panic!("{uid} never came to it: {row:?}"),
                _ => sleep(Duration::from_millis(2)).await,
            }
        }
    }

    pub(crate) async fn captured(&self, uid: &str) -> PodStatus {
        self.pod(uid, |row| row.captured).await
    }

    pub(crate) fn row(&self, uid: &str) -> Option<PodStatus> {
        let rows = self.status.pods(&Snapshot::empty());
        rows.into_iter().find(|row| row.uid == uid)
    }

    /// Ends capture as SIGTERM does, while `process` lives, and answers how it ended.
    pub(crate) async fn stop_around(self, process: Process) -> (Arc<Recorder>, Result<(), Error>) {
        self.shutdown.cancel();
        let ended = timeout(PATIENCE, self.running).await.unwrap().unwrap();
        drop(process);
        (self.recorder, ended)
    }

    /// Waits for the end that capture comes to by itself.
    pub(crate) async fn end(self) -> Result<(), Error> {
        timeout(PATIENCE, self.running).await.unwrap().unwrap()
    }
}

/// A directory below the real cgroup2 mount, removed with all that is in it.
pub(crate) struct Tree {
    pub(crate) path: PathBuf,
}

impl Tree {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = cgroup::cgroup2_mounts().expect("these tests need a cgroup2 mount");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("capture-test-{}-{number}", std::process::id());
        let path = mounts[0].join(name);
        fs::create_dir(&path).expect("these tests need root");
        Self { path }
    }

    pub(crate) fn dir(&self, relative: &str) -> PathBuf {
        let dir = self.path.join(relative);
        fs::create_dir_all(&dir).unwrap();
        dir
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a cgroup and those below it; their processes must have been reaped.
pub(crate) fn remove(dir: &Path) {
    let children = fs::read_dir(dir).into_iter().flatten().flatten();
    for child in children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&child.path());
    }
    let started = Instant::now();
    while let Err(error) = fs::remove_dir(dir) {
        if error.kind() == std::io::ErrorKind::NotFound || started.elapsed() > PATIENCE {
            return;
        }
        std::thread::yield_now();
    }
}

/// A process of a pod, ended on drop.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Enters the cgroup, then runs `script` (which should end in an `exec`).
    pub(crate) fn start(dir: &Path, script: &str) -> Self {
        let enter = format!("echo $$ > {}/cgroup.procs && {script}", dir.display());
        let child = Command::new("sh")
            .args(["-c", &enter])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// A process in a network namespace of its own, as a pod's sandbox is.
    pub(crate) fn sandbox(dir: &Path) -> Self {
        Self::sandbox_after(dir, "true")
    }

    /// As above; `first` runs in the namespace before the loopback is up.
    pub(crate) fn sandbox_after(dir: &Path, first: &str) -> Self {
        let script = format!("{first} && ip link set lo up && exec sleep 600");
        Self::start(dir, &format!("exec unshare --net sh -c '{script}'"))
    }

    /// Writes a line to its standard input.
    pub(crate) fn go(&mut self) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(b"go\n").unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn netns(&self) -> Netns {
        Netns::of_pid(self.0.id()).unwrap()
    }

    /// The namespace that it will stay in.
    pub(crate) async fn own_netns(&self) -> Netns {
        let node = Netns::current().unwrap();
        loop {
            let netns = self.netns();
            if !netns.is_same(&node) {
                return netns;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
