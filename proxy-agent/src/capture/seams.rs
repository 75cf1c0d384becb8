//! What capture needs of the kernel side and of the proxy, and nothing more of either.

use std::error::Error;
use std::fmt::Debug;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use proxy_ebpf::PodEntry;

use crate::net::{Netns, PodListeners};

/// Whatever went wrong on the other side of a seam.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// An answer that comes later.
pub type Ack = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// The `PODS` map.
pub trait Enrol: Debug + Send + Sync {
    /// Writes the entry of a network namespace, of a pod with these addresses; in force when it
    /// returns.
    ///
    /// # Errors
    ///
    /// The map is full, or the cookie is the node's.
    fn set_pod(&self, cookie: u64, entry: PodEntry, addresses: &[IpAddr]) -> Result<(), BoxError>;

    /// Removes the entry; one that is not there is no error.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    fn remove_pod(&self, cookie: u64) -> Result<(), BoxError>;
}

/// The proxy.
pub trait Serve: Debug + Send + Sync {
    /// Takes the pod's listeners. The answer comes when every worker accepts on its own.
    ///
    /// After an error nothing of them is served.
    fn serve(&self, pod: ServedPod) -> Ack;

    /// Empties the accept queues of the pod's listeners, serves what was in them, and closes the
    /// listeners. The answer comes when they are closed; open connections go on. A pod that is not
    /// served is no error.
    fn release(&self, uid: &Arc<str>) -> Ack;
}

/// A pod as the proxy gets it.
#[derive(Debug)]
pub struct ServedPod {
    /// UID.
    pub uid: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Its network namespace, for upstream sockets.
    pub netns: Arc<Netns>,
    /// Its listeners, one of each family per worker.
    pub listeners: PodListeners,
}
