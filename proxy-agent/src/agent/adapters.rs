//! Joins capture to the kernel side and to the proxy.

use std::sync::Arc;

use proxy_ebpf::PodEntry;

use crate::bpf::Kernel;
use crate::capture::{Ack, BoxError, Enrol, Serve, ServedPod};
use crate::proxy::{self, Proxy};

/// The `PODS` map as capture sees it.
#[derive(Debug)]
pub(super) struct EnrolKernel(pub(super) Arc<Kernel>);

impl Enrol for EnrolKernel {
    fn set_pod(&self, cookie: u64, entry: PodEntry) -> Result<(), BoxError> {
        Ok(self.0.set_pod(cookie, entry)?)
    }

    fn remove_pod(&self, cookie: u64) -> Result<(), BoxError> {
        self.0.remove_pod(cookie)?;
        Ok(())
    }
}

/// The workers as capture sees them.
#[derive(Debug)]
pub(super) struct ServeProxy(pub(super) Arc<Proxy>);

impl Serve for ServeProxy {
    fn serve(&self, pod: ServedPod) -> Ack {
        let proxy = Arc::clone(&self.0);
        let families = vec![pod.listeners.v4, pod.listeners.v6];
        let pod = proxy::ServedPod::new(pod.uid, pod.namespace, pod.name, pod.netns, families);
        Box::pin(async move {
            proxy.serve(pod).await;
            Ok(())
        })
    }

    fn release(&self, uid: &Arc<str>) -> Ack {
        let proxy = Arc::clone(&self.0);
        let uid = Arc::clone(uid);
        Box::pin(async move {
            proxy.release(&uid).await;
            Ok(())
        })
    }
}
