//! The kernel side as the agent sees it, and the only door to aya: load, attach, maps, counters.
//!
//! Mechanism without policy: nothing here knows what a Service is or when a pod is ready.
//! Minimum kernel: 5.15.

mod acceleration;
mod addresses;
mod btf;
mod error;
mod fdinfo;
mod frontends;
mod inherit;
mod links;
mod log;
mod maps;
mod object;
pub mod preflight;
mod sets;
mod shares;
mod sockets;
mod sys;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proxy_ebpf::{EndpointState, FrontendKey, PodEntry, Settings, Stat};

pub use self::acceleration::{Acceleration, Channel, JoinError, Outgoing, SelfTestItem};
pub use self::error::Error;
pub use self::frontends::{ReconcileReport, Wanted};
pub use self::inherit::{InheritError, LoadError, SharedMaps};
pub use self::log::KernelLog;
pub use self::maps::{Heartbeat, OrigDstMap};
pub use self::object::LoadOptions;
pub use self::sets::{DirectSet, Swept};
pub use self::shares::DirectGroup;
pub use self::sys::{netns_cookie, now_ns};

use self::frontends::Frontends;
use self::links::{Links, Program};
use self::maps::Maps;
use crate::status::{BpfStatus, CounterStatus, MapStatus, ProgramStatus};

/// The loaded programs and their maps. Dropping it detaches and unloads everything.
///
/// Shared as an `Arc`; locks are only for attachment and the frontends, never on a data path.
#[derive(Debug)]
pub struct Kernel {
    programs: Vec<Program>,
    maps: Maps,
    links: Mutex<Option<Links>>,
    /// What `FRONTENDS` and its sets hold: this process is their only writer.
    frontends: Mutex<Frontends>,
    log: Mutex<Option<KernelLog>>,
    flows_swept: AtomicU64,
    acceleration: Result<Arc<Acceleration>, Error>,
    /// The self-test runs: what is counted is no pod's.
    testing: AtomicBool,
    cpus: usize,
}

impl Kernel {
    /// Loads the object: every program passes the verifier here, nothing is attached yet.
    ///
    /// # Errors
    ///
    /// Any but `Attach` and `MapFull`; `proxy-agent check` tells what the kernel lacks.
    pub fn load(options: &LoadOptions) -> Result<Self, Error> {
        Self::finish(object::open(options)?)
    }

    fn finish(mut object: aya::Ebpf) -> Result<Self, Error> {
        let programs = object::load_programs(&mut object)?;
        // Before any map is taken out of the object: programs name maps by descriptors until then.
        let accelerator = object::load_accelerator(&mut object);
        let maps = Maps::take(&mut object)?;
        let log = KernelLog::take(&mut object)?;
        let addresses = Arc::clone(&maps.addresses);
        let acceleration =
            accelerator.and_then(|of| Acceleration::take(&mut object, &of, addresses));
        let cpus = aya::util::nr_cpus().map_err(|(_path, source)| Error::Map {
            operation: "count the CPUs of",
            name: proxy_ebpf::map::STATS,
            source,
        })?;
        Ok(Self {
            programs,
            links: Mutex::new(None),
            frontends: Mutex::default(),
            maps,
            log: Mutex::new(Some(log)),
            flows_swept: AtomicU64::new(0),
            acceleration: acceleration.map(Arc::new),
            testing: AtomicBool::new(false),
            cpus,
        })
    }

    /// Tells the programs about the agent. Until then they pass everything.
    ///
    /// # Errors
    ///
    /// [`Error::Map`]: the former settings stay in force.
    pub fn configure(&self, settings: Settings) -> Result<(), Error> {
        self.maps.settings.set(&0, &settings)
    }

    /// Exempts the sockets of the processes in a cgroup, by its id (its directory's inode).
    ///
    /// # Errors
    ///
    /// [`Error::Map`] or [`Error::MapFull`]: do not attach, the agent would capture itself.
    pub fn add_agent_cgroup(&self, id: u64) -> Result<(), Error> {
        self.maps.agents.set(&id, &1)
    }

    /// Captures the sockets of a cgroup again, from [`Kernel::add_agent_cgroup`].
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn remove_agent_cgroup(&self, id: u64) -> Result<(), Error> {
        self.maps.agents.remove(&id).map(drop)
    }

    /// Ids of the cgroups that are exempted.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn agent_cgroups(&self) -> Result<Vec<u64>, Error> {
        let agents = self.maps.agents.scan()?;
        Ok(agents.into_iter().map(|(id, _)| id).collect())
    }

    /// Attaches all programs to `cgroup`, and so to every cgroup below it, beside the programs of
    /// others. A former attachment is given up once the new one stands.
    ///
    /// # Errors
    ///
    /// [`Error::Attach`]: none is attached to `cgroup`, a former attachment stays.
    pub fn attach(&self, cgroup: BorrowedFd<'_>) -> Result<(), Error> {
        let links = Links::attach(&self.programs, cgroup)?;
        *lock(&self.links) = Some(links);
        Ok(())
    }

    /// Detaches all programs; the kernel has done so when this returns, unless another agent has
    /// the links too. Idempotent.
    pub fn detach(&self) {
        lock(&self.links).take();
    }

    /// The programs as the kernel lists them on the cgroup: effects, not intents.
    pub fn attached(&self) -> Vec<ProgramStatus> {
        links::statuses(&self.programs, lock(&self.links).as_ref())
    }

    /// Writes what was decided about a pod. Write it only when its listeners listen.
    ///
    /// # Errors
    ///
    /// [`Error::MapFull`] or [`Error::Map`]: the pod's connections go on as before.
    pub fn set_pod(&self, netns_cookie: u64, entry: PodEntry) -> Result<(), Error> {
        self.maps.pods.set(&netns_cookie, &entry)
    }

    /// Forgets a pod; `false` if it was not known. Do this before its listeners close.
    ///
    /// # Errors
    ///
    /// [`Error::Map`]: the entry may still be there, so keep the listeners.
    pub fn remove_pod(&self, netns_cookie: u64) -> Result<bool, Error> {
        self.maps.pods.remove(&netns_cookie)
    }

    /// Every pod that the programs know.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn pods(&self) -> Result<Vec<(u64, PodEntry)>, Error> {
        self.maps.pods.scan()
    }

    /// Makes the programs' Service addresses equal to `wanted`, writing only differences. No
    /// connection sees a part of a set of endpoints, or of a frontend.
    ///
    /// # Errors
    ///
    /// [`Error::MapFull`] or [`Error::Map`], the last one met: everything else is applied, and
    /// the next call tries again what is missing. Frontends whose set has no room are proxied.
    pub fn reconcile_frontends(
        &self,
        wanted: &HashMap<FrontendKey, Wanted>,
    ) -> Result<ReconcileReport, Error> {
        lock(&self.frontends).reconcile(&self.maps, wanted)
    }

    /// Makes these of the programs' Service addresses equal to `wanted`, in the same way, and leaves
    /// all others as they are: costs as much as is named.
    ///
    /// # Errors
    ///
    /// As [`Self::reconcile_frontends`]; that tries again what is missing.
    pub fn renew_frontends(
        &self,
        wanted: &HashMap<FrontendKey, Wanted>,
    ) -> Result<ReconcileReport, Error> {
        lock(&self.frontends).renew(&self.maps, wanted)
    }

    /// Removes what direct connections have left behind: former sets, affinity that is over, and
    /// endpoints that are gone and have no connection.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn sweep_direct(&self) -> Result<Swept, Error> {
        let sets = &mut lock(&self.frontends).sets;
        sets.erase_retired(&self.maps, Instant::now());
        self.maps.direct.sweep(&sets.endpoints().collect())
    }

    /// Endpoints to which at least `streak` direct connections in a row have failed, and how many.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn failing(&self, streak: u64) -> Result<HashMap<SocketAddr, u64>, Error> {
        let all = self.maps.direct.endpoints.scan()?.into_iter();
        let failing = all.filter(|(_, state)| state.streak >= streak);
        Ok(failing
            .map(|(key, state)| (key.socket_addr(), state.streak))
            .collect())
    }

    /// What direct connections of this node have made of each endpoint that they went to.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn endpoints(&self) -> Result<HashMap<SocketAddr, EndpointState>, Error> {
        let all = self.maps.direct.endpoints.scan()?.into_iter();
        Ok(all.map(|(key, state)| (key.socket_addr(), state)).collect())
    }

    /// The sign of life of worker number `worker`, counted from 0.
    ///
    /// # Errors
    ///
    /// [`Error::MapFull`] from [`Settings::MAX_WORKERS`] on: start fewer workers.
    pub fn heartbeat(&self, worker: u32) -> Result<Heartbeat, Error> {
        let beats = Arc::clone(&self.maps.heartbeats);
        if worker >= beats.max_entries() {
            return Err(Error::MapFull {
                name: beats.name(),
                max_entries: beats.max_entries(),
            });
        }
        Ok(Heartbeat { beats, worker })
    }

    /// Age of the oldest beat among the first `workers`; the time since boot if one never beat.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn heartbeat_age(&self, workers: u32) -> Result<Duration, Error> {
        maps::oldest_age(&self.maps.heartbeats, workers)
    }

    /// Where redirected connections were meant to go.
    pub fn orig_dst(&self) -> OrigDstMap {
        OrigDstMap(Arc::clone(&self.maps.orig_dst))
    }

    /// Removes the flows that nobody accepted within `older_than`; returns how many.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn sweep_flows(&self, older_than: Duration) -> Result<u64, Error> {
        let swept = maps::sweep(&self.maps.orig_dst, older_than)?;
        self.flows_swept.fetch_add(swept, Ordering::Relaxed);
        Ok(swept)
    }

    /// What connections are accelerated by.
    ///
    /// # Errors
    ///
    /// What this kernel refused: no connection can be accelerated, all else works.
    pub fn acceleration(&self) -> Result<&Arc<Acceleration>, &Error> {
        self.acceleration.as_ref()
    }

    /// Tries on this kernel what acceleration relies on, before any connection is accelerated: the
    /// counters of acceleration begin anew after it. Blocks for a good part of a second.
    ///
    /// # Errors
    ///
    /// As [`Kernel::acceleration`].
    pub fn self_test(&self) -> Result<Vec<SelfTestItem>, &Error> {
        let acceleration = self.acceleration()?;
        self.testing.store(true, Ordering::Relaxed);
        let items = acceleration.self_test();
        let mut counted = Stat::OF_ACCELERATION.iter();
        let cleared = counted.try_for_each(|stat| self.maps.stats.clear(*stat as u32, self.cpus));
        if let Err(error) = cleared {
            tracing::warn!(%error, "the self-test of acceleration counts too");
        }
        self.testing.store(false, Ordering::Relaxed);
        Ok(items)
    }

    /// One counter, summed over CPUs.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn stat(&self, stat: Stat) -> Result<u64, Error> {
        if self.testing.load(Ordering::Relaxed) && Stat::OF_ACCELERATION.contains(&stat) {
            return Ok(0);
        }
        self.maps.stats.sum(stat as u32, self.cpus)
    }

    /// Has the kernel time every run of a program while the result is kept. Each run costs some
    /// 50 ns more then. Minimum kernel version: 5.8.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_SYS_ADMIN`: there are no times then.
    pub fn time_programs(&self) -> io::Result<OwnedFd> {
        sys::enable_stats()
    }

    /// Programs, map fill levels and counters, read now.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn status(&self) -> Result<BpfStatus, Error> {
        let counters = Stat::ALL.iter().map(|stat| {
            Ok(CounterStatus {
                name: stat.name().to_owned(),
                value: self.stat(*stat)?,
            })
        });
        Ok(BpfStatus {
            programs: self.attached(),
            maps: self.map_statuses()?,
            counters: counters.collect::<Result<_, Error>>()?,
            flows_swept_total: self.flows_swept.load(Ordering::Relaxed),
            ..BpfStatus::default()
        })
    }

    fn map_statuses(&self) -> Result<Vec<MapStatus>, Error> {
        let maps = &self.maps;
        let mut all = vec![
            maps.pods.status()?,
            maps.addresses.status()?,
            maps.frontends.status()?,
            maps.orig_dst.status()?,
            maps.socket_cells.status_of(|cell| cell.owner != 0)?,
        ];
        all.extend(maps.direct.statuses()?);
        if let Ok(acceleration) = self.acceleration() {
            all.push(acceleration.pairs()?);
        }
        all.push(maps.agents.status()?);
        Ok(all)
    }

    /// The programs' messages; `None` from the second call on. Run [`KernelLog::pump`] on the
    /// control runtime.
    pub fn take_log(&self) -> Option<KernelLog> {
        lock(&self.log).take()
    }
}

/// A panic while one of these locks was held leaves the value behind it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
