//! Whether this agent accelerates: what it was told, and what this kernel makes of it.
//!
//! The kernel is tried when the first pod asks, beside everything else: nothing waits for it but
//! the acceleration of pods.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proxy_ebpf::{PodAddress, PodEntry, PodFlags};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::bpf::{Acceleration, Error, Kernel, SelfTestItem};
use crate::cli::{Acceleration as Flag, RunArgs};
use crate::compile;
use crate::metrics::traffic::Traffic;
use crate::model::{Accelerates, CaptureDecision, Pod, Snapshot};
use crate::status::{AccelerationStatus, SelfTestStatus};

/// How long a handover waits for the self-test: many times what it takes.
const PREPARE_LIMIT: Duration = Duration::from_secs(5);

/// What is known of acceleration so far, and which pods wait to hear of it.
#[derive(Debug)]
pub(super) struct Verdict {
    flag: Flag,
    kernel: Arc<Kernel>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    stage: Stage,
    /// What each pod has in the `ADDRESSES` map.
    addresses: HashMap<u64, Vec<IpAddr>>,
}

#[derive(Debug)]
enum Stage {
    /// No pod has asked yet.
    NotRun,
    /// These have asked, with the entries that they are to get.
    Running(HashMap<u64, PodEntry>),
    Tried(Vec<SelfTestItem>),
}

impl Verdict {
    /// Knows nothing yet, but for what can be told without trying.
    pub(super) fn of(args: &RunArgs, kernel: &Arc<Kernel>) -> Arc<Self> {
        let verdict = Self {
            flag: args.acceleration,
            kernel: Arc::clone(kernel),
            known: Mutex::new(Known {
                stage: Stage::NotRun,
                addresses: HashMap::new(),
            }),
        };
        if verdict.flag != Flag::Off
            && let Err(error) = kernel.acceleration()
        {
            tracing::warn!(%error, "no connection is accelerated on this kernel");
        }
        Arc::new(verdict)
    }

    /// What connections are accelerated by, once it is admitted.
    pub(super) fn offered(&self) -> Option<&Arc<Acceleration>> {
        let offered = self.kernel.acceleration().ok();
        offered.filter(|_| self.flag != Flag::Off)
    }

    /// Which pods are to be accelerated: none where none can be.
    pub(super) fn asked(&self) -> compile::Acceleration {
        match (self.offered(), self.flag) {
            (None, _) | (Some(_), Flag::Off) => compile::Acceleration::Off,
            (Some(_), Flag::OptIn) => compile::Acceleration::OptIn,
            (Some(_), Flag::On) => compile::Acceleration::On,
        }
    }

    /// Has the kernel tried if one of these pods asks, and returns when it was. Who follows another agent
    /// waits for it, so that the connections that come over are accelerated; nobody else does.
    pub(super) async fn prepare(self: &Arc<Self>, snapshot: &Snapshot, waits: bool) {
        let asks = |pod: &Arc<Pod>| {
            matches!(
                pod.capture,
                CaptureDecision::Capture { accelerates, .. } if accelerates != Accelerates::Nothing
            )
        };
        if !snapshot.pods.values().any(asks) {
            return;
        }
        let trial = self.try_out(&mut self.known().stage);
        if let (true, Some(trial)) = (waits, trial) {
            match timeout(PREPARE_LIMIT, trial).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "the self-test of acceleration has failed")
                }
                Err(_elapsed) => tracing::warn!("the self-test of acceleration takes long"),
            }
        }
    }

    fn try_out(self: &Arc<Self>, stage: &mut Stage) -> Option<JoinHandle<()>> {
        if !matches!(stage, Stage::NotRun) {
            return None;
        }
        *stage = Stage::Running(HashMap::new());
        let verdict = Arc::clone(self);
        Some(tokio::task::spawn_blocking(move || verdict.find()))
    }

    /// Writes a pod's entry: without acceleration until this kernel was found good for it, so that no
    /// socket of the pod comes near it. The first that asks has it tried.
    ///
    /// # Errors
    ///
    /// That of the map.
    pub(super) fn set_pod(
        self: &Arc<Self>,
        cookie: u64,
        entry: PodEntry,
        addresses: &[IpAddr],
    ) -> Result<(), Error> {
        let mut known = self.known();
        let asks = entry.flags().contains(PodFlags::ACCELERATES);
        let plain = entry.with_flags(entry.flags().without(PodFlags::ACCELERATES_DIRECT));
        let admitted = self.offered().is_some_and(|of| of.is_admitted());
        // Under the lock, as what waits is written: the last one holds.
        let written = if asks && !admitted { plain } else { entry };
        self.kernel.set_pod(cookie, written)?;
        let addresses = one_of_each_family(addresses);
        self.set_addresses(&mut known.addresses, cookie, addresses, written.flags());
        if asks {
            // Its end is told by what it writes.
            drop(self.try_out(&mut known.stage));
        }
        if let Stage::Running(waiting) = &mut known.stage {
            waiting.remove(&cookie);
            if asks {
                waiting.insert(cookie, entry);
            }
        }
        Ok(())
    }

    /// Removes a pod's entry.
    ///
    /// # Errors
    ///
    /// That of the map.
    pub(super) fn remove_pod(&self, cookie: u64) -> Result<(), Error> {
        let mut known = self.known();
        if let Stage::Running(waiting) = &mut known.stage {
            waiting.remove(&cookie);
        }
        self.set_addresses(
            &mut known.addresses,
            cookie,
            Vec::new(),
            PodFlags::default(),
        );
        self.kernel.remove_pod(cookie).map(drop)
    }

    /// Says which addresses are the pod's from now on. One that cannot be written goes by TCP.
    fn set_addresses(
        &self,
        known: &mut HashMap<u64, Vec<IpAddr>>,
        cookie: u64,
        addresses: Vec<IpAddr>,
        flags: PodFlags,
    ) {
        if self.offered().is_none() {
            return;
        }
        let log = |error: Error| tracing::warn!(%error, cookie, "an address of a pod is not known");
        for address in known.remove(&cookie).unwrap_or_default() {
            if !addresses.contains(&address)
                && let Err(error) = self.kernel.remove_address(address, cookie)
            {
                log(error);
            }
        }
        for address in &addresses {
            let pod = PodAddress::new(cookie, flags);
            if let Err(error) = self.kernel.set_address(*address, pod) {
                log(error);
            }
        }
        if !addresses.is_empty() {
            known.insert(cookie, addresses);
        }
    }

    /// Tries what acceleration relies on, and lets those who wait have it.
    fn find(&self) {
        let begun = std::time::Instant::now();
        // There is none to try where no pod could ask.
        let (Some(offered), Ok(items)) = (self.offered(), self.kernel.self_test()) else {
            return;
        };
        let took = begun.elapsed();
        let mut known = self.known();
        let former = std::mem::replace(&mut known.stage, Stage::Tried(items));
        let unusable = unusable(&known.stage);
        if !unusable.is_empty() {
            return tracing::warn!(reason = unusable, ?took, "no connection is accelerated");
        }
        tracing::info!(?took, "the self-test of acceleration has passed");
        offered.admit();
        let Stage::Running(waiting) = former else {
            return;
        };
        for (cookie, entry) in waiting {
            if let Err(error) = self.kernel.set_pod(cookie, entry) {
                tracing::error!(%error, cookie, "a pod that asks for acceleration goes without");
            }
            let addresses = known.addresses.get(&cookie).cloned().unwrap_or_default();
            self.set_addresses(&mut known.addresses, cookie, addresses, entry.flags());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nobody is accelerated; empty where that is not so, or not known.
    fn unusable(&self, stage: &Stage) -> String {
        match self.kernel.acceleration() {
            _ if self.flag == Flag::Off => "--acceleration off".to_owned(),
            Ok(_) => unusable(stage),
            Err(error) => error.to_string(),
        }
    }

    /// As `status` shows it.
    pub(super) fn status(&self, traffic: &Traffic) -> AccelerationStatus {
        let stage = &self.known().stage;
        let (open, total) = self.offered().map_or((0, 0), |of| of.connections());
        let to_pods = self.offered().map(|of| of.connections_to_pods());
        let (to_pods_open, to_pods_total) = to_pods.unwrap_or_default();
        let not = traffic.workers().unaccelerated.into_iter();
        AccelerationStatus {
            unusable: self.unusable(stage),
            self_test: results(stage),
            connections_open: open,
            connections_total: total,
            to_pods_open,
            to_pods_total,
            not_accelerated: not.map(|(why, n)| (why.to_owned(), n)).collect(),
        }
    }
}

/// A second address of a family could make two connections of one key.
fn one_of_each_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let v6 = addresses.iter().find(|address| address.is_ipv6());
    v4.into_iter().chain(v6).copied().collect()
}

fn unusable(stage: &Stage) -> String {
    let Stage::Tried(items) = stage else {
        return String::new();
    };
    let failed = items.iter().filter(|item| item.is_refusal());
    let failed: Vec<_> = failed.map(|item| item.name).collect();
    if failed.is_empty() {
        String::new()
    } else {
        format!("self-test: {}", failed.join(", "))
    }
}

/// One line for each thing that is tried, also before it was.
fn results(stage: &Stage) -> Vec<SelfTestStatus> {
    let untried = |result: &str| {
        let names = Acceleration::self_test_names();
        let untried = names.map(|name| SelfTestStatus {
            name: name.to_owned(),
            result: result.to_owned(),
            failure: String::new(),
        });
        untried.collect()
    };
    match stage {
        Stage::NotRun => untried("not run: no pod asks"),
        Stage::Running(_) => untried("running"),
        Stage::Tried(items) => items.iter().map(result).collect(),
    }
}

fn result(item: &SelfTestItem) -> SelfTestStatus {
    let result = match (&item.failure, item.refuses) {
        (None, _) => "passed",
        (Some(_), true) => "failed",
        (Some(_), false) => "tolerated",
    };
    SelfTestStatus {
        name: item.name.to_owned(),
        result: result.to_owned(),
        failure: item.failure.clone().unwrap_or_default(),
    }
}
