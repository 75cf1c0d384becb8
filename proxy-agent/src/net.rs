//! Sockets and network namespaces: what it takes to listen and to connect inside a pod.
//!
//! A mechanism without policy: it knows no pod, no Service and no map, only namespaces, ports and
//! addresses. No function leaves the calling thread in another namespace than it came from.

mod connect;
mod descriptors;
mod limits;
mod listen;
mod memory;
mod netns;
mod sock_diag;
mod stream;

pub use connect::{ConnectError, connect};
pub use descriptors::{DescriptorStream, MAX_DESCRIPTORS, Message};
pub use limits::{raise_nofile, run_in_short_turns, yield_to_others};
pub use listen::{CANDIDATE_PORTS, ListenError, PodListeners, adopt_listeners, bind_listeners};
pub use memory::{Heap, forget_code};
pub use netns::Netns;
pub use sock_diag::end_sockets;
pub use stream::{accept_now, keep_alive, reset_on_close};
