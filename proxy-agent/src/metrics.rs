//! What the agent counts, and how it is read. Writing a counter takes no lock and shares no cache
//! line between workers; adding up happens when somebody asks.

mod cluster;
mod counter;
mod histogram;
mod recorder;
mod traffic;

pub use cluster::{ClusterRecorder, ClusterTotals};
pub use histogram::{Histogram, HistogramTotals};
pub use recorder::{EndpointRecorder, EndpointTotals, PodRecorder, PodTotals};
pub use recorder::{WorkerRecorder, WorkerTotals};
pub use traffic::Traffic;
