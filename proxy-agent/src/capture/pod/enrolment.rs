//! What is done in a pod's network namespace once it is found, and how it is undone.
//!
//! Listeners, then the proxy, then the map; back in reverse.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proxy_ebpf::{PodEntry, PodFlags};
use tokio::time::timeout;
use tracing::error;

use crate::capture::seams::ServedPod;
use crate::model::{Accelerates, CaptureDecision};
use crate::net::{CANDIDATE_PORTS, Netns, bind_listeners};

use super::{Fault, PodTask, chain};

/// How long the proxy may take to take over or to let go of listeners. Its workers answer within
/// a turn of their loop; a stuck one must not hold up the removal of the pod.
pub(super) const ACK_LIMIT: Duration = Duration::from_secs(5);

const UNKNOWN: &str = "unknown: no Pod object with this uid";

/// The namespace that the pod was found in, and what has been done there.
pub(super) struct Held {
    pub(super) netns: Arc<Netns>,
    /// In the map.
    entry: Option<PodEntry>,
    /// There with it.
    addresses: Vec<IpAddr>,
    /// With the proxy.
    pub(super) serving: Option<Serving>,
}

pub(super) struct Serving {
    port: u16,
    pub(super) addresses: Vec<SocketAddr>,
}

impl PodTask {
    pub(super) fn hold(&mut self, netns: Netns) -> Result<(), Fault> {
        let claimed = self.context.claims.claim(netns.cookie(), &self.uid);
        claimed.map_err(|other| Fault::Shared { other })?;
        self.held = Some(Held {
            netns: Arc::new(netns),
            entry: None,
            addresses: Vec::new(),
            serving: None,
        });
        Ok(())
    }

    pub(super) async fn apply(&mut self, decision: Option<CaptureDecision>) -> Result<(), Fault> {
        match decision {
            None => {
                self.withdraw()?;
                self.stop_serving().await;
                self.publish(UNKNOWN);
            }
            Some(CaptureDecision::LeaveAlone(why)) => {
                self.write(PodEntry::new(0, PodFlags::default()))?;
                self.stop_serving().await;
                self.publish(why.name());
            }
            Some(CaptureDecision::Capture {
                fail_closed,
                avoid_sidecar_ports,
                accelerates,
            }) => {
                // Istio's Envoy, too, listens on the first one.
                let ports = &CANDIDATE_PORTS[usize::from(avoid_sidecar_ports)..];
                self.start_serving(ports).await?;
                let wishes = [
                    (fail_closed, PodFlags::FAIL_CLOSED),
                    (accelerates != Accelerates::Nothing, PodFlags::ACCELERATES),
                    (
                        accelerates == Accelerates::DirectToo,
                        PodFlags::ACCELERATES_DIRECT,
                    ),
                ];
                self.enrol(wishes)?;
                self.publish("");
            }
        }
        Ok(())
    }

    async fn start_serving(&mut self, ports: &[u16]) -> Result<(), Fault> {
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        if held.serving.is_some() {
            return Ok(());
        }
        let inherited = self.context.inherited.take(&self.uid, held.netns.cookie());
        let listeners = match inherited {
            Some(listeners) => listeners,
            None => {
                bind_listeners(&held.netns, ports, self.context.workers).map_err(Fault::Listen)?
            }
        };
        let (port, addresses) = (listeners.port, listeners.addresses());
        let pod = self.snapshots.borrow().pods.get(&self.uid).cloned();
        let Some(pod) = pod else {
            // Gone from the snapshot since the decision: the next step sees it.
            return Ok(());
        };
        let served = self.context.serve.serve(ServedPod {
            uid: Arc::clone(&self.uid),
            namespace: Arc::clone(&pod.namespace),
            name: Arc::clone(&pod.name),
            netns: Arc::clone(&held.netns),
            listeners,
        });
        // Noted before the answer: whatever the proxy has taken must be taken back.
        held.serving = Some(Serving { port, addresses });
        let fault = match timeout(ACK_LIMIT, served).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Fault::Serve(error),
            Err(_elapsed) => Fault::Silent,
        };
        self.stop_serving().await;
        Err(fault)
    }

    fn enrol(&mut self, wishes: [(bool, PodFlags); 3]) -> Result<(), Fault> {
        let Some(serving) = self.held.as_ref().and_then(|held| held.serving.as_ref()) else {
            return Ok(());
        };
        let mut flags = PodFlags::CAPTURED;
        for address in &serving.addresses {
            flags = flags.with(match address {
                SocketAddr::V4(_) => PodFlags::LISTENS_V4,
                SocketAddr::V6(_) => PodFlags::LISTENS_V6,
            });
        }
        for (_, flag) in wishes.into_iter().filter(|(wished, _)| *wished) {
            flags = flags.with(flag);
        }
        let entry = PodEntry::new(serving.port, flags);
        if self.is_captured() {
            return self.write(entry);
        }
        self.write(entry)?;
        let took = self.since.map(|since| since.elapsed()).unwrap_or_default();
        self.enrolment_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.context.status.enrolled(self.enrolment_us);
        Ok(())
    }

    fn write(&mut self, entry: PodEntry) -> Result<(), Fault> {
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        let captured = entry.flags().contains(PodFlags::CAPTURED);
        let pod = self.snapshots.borrow().pods.get(&self.uid).cloned();
        let addresses = pod.filter(|_| captured).map(|pod| pod.ips.clone());
        let addresses = addresses.unwrap_or_default();
        if held.entry != Some(entry) || held.addresses != addresses {
            let cookie = held.netns.cookie();
            let written = self.context.enrol.set_pod(cookie, entry, &addresses);
            written.map_err(Fault::Map)?;
            held.entry = Some(entry);
            held.addresses = addresses;
        }
        Ok(())
    }

    pub(super) fn withdraw(&mut self) -> Result<(), Fault> {
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        if held.entry.is_some() {
            let cookie = held.netns.cookie();
            self.context.enrol.remove_pod(cookie).map_err(Fault::Map)?;
            held.entry = None;
        }
        Ok(())
    }

    async fn stop_serving(&mut self) {
        let Some(held) = &mut self.held else { return };
        if held.serving.take().is_none() {
            return;
        }
        let released = timeout(ACK_LIMIT, self.context.serve.release(&self.uid)).await;
        match released {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(pod = %self.uid, %error, "the proxy keeps a pod's listeners"),
            Err(_elapsed) => {
                error!(pod = %self.uid, "the proxy is slow to close a pod's listeners")
            }
        }
    }

    /// Undoes everything, the map entry first. The namespace is let go of, so that it can end.
    pub(super) async fn release(&mut self) {
        if let Err(fault) = self.withdraw() {
            // No other namespace will ever have this cookie: the entry only takes up room.
            error!(pod = %self.uid, error = chain(&fault), "a PODS entry stays behind");
        }
        self.stop_serving().await;
        if let Some(held) = self.held.take() {
            self.context.claims.give_up(held.netns.cookie());
        }
        self.enrolment_us = 0;
    }

    /// Whether the map says so.
    pub(super) fn is_captured(&self) -> bool {
        let entry = self.held.as_ref().and_then(|held| held.entry.as_ref());
        entry.is_some_and(|entry| entry.flags().contains(PodFlags::CAPTURED))
    }
}
