//! Joins capture to the kernel side and to the proxy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proxy_ebpf::PodEntry;

use crate::capture::{Ack, BoxError, Enrol, Serve, ServedPod};
use crate::net::Netns;
use crate::proxy::{self, Proxy};

use super::acceleration::Verdict;

/// The `PODS` map as capture sees it.
#[derive(Debug)]
pub(super) struct EnrolKernel(pub(super) Arc<Verdict>);

impl Enrol for EnrolKernel {
    fn set_pod(&self, cookie: u64, entry: PodEntry, addresses: &[IpAddr]) -> Result<(), BoxError> {
        Ok(self.0.set_pod(cookie, entry, addresses)?)
    }

    fn remove_pod(&self, cookie: u64) -> Result<(), BoxError> {
        Ok(self.0.remove_pod(cookie)?)
    }
}

/// The network namespaces of the pods that are served. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct PodNetns(Arc<Mutex<HashMap<Arc<str>, Arc<Netns>>>>);

impl PodNetns {
    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Netns>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Netns>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The workers as capture sees them.
#[derive(Debug)]
pub(super) struct ServeProxy {
    pub(super) proxy: Arc<Proxy>,
    pub(super) pods: PodNetns,
}

impl Serve for ServeProxy {
    fn serve(&self, pod: ServedPod) -> Ack {
        let proxy = Arc::clone(&self.proxy);
        let (uid, netns) = (Arc::clone(&pod.uid), Arc::clone(&pod.netns));
        self.pods.lock().insert(uid, netns);
        let families = vec![pod.listeners.v4, pod.listeners.v6];
        let pod = proxy::ServedPod::new(pod.uid, pod.namespace, pod.name, pod.netns, families);
        Box::pin(async move {
            proxy.serve(pod).await;
            Ok(())
        })
    }

    fn release(&self, uid: &Arc<str>) -> Ack {
        let proxy = Arc::clone(&self.proxy);
        let uid = Arc::clone(uid);
        self.pods.lock().remove(&uid);
        Box::pin(async move {
            proxy.release(&uid).await;
            Ok(())
        })
    }
}
