//! What the agent counts, and how it is read. Writing a counter takes no lock and shares no cache
//! line between workers; adding up happens when somebody asks.

mod histogram;
mod recorder;
mod traffic;

pub use histogram::{Histogram, HistogramTotals};
pub use recorder::{ClusterRecorder, EndpointRecorder, PodRecorder, WorkerRecorder};
pub use recorder::{ClusterTotals, EndpointTotals, PodTotals, WorkerTotals};
pub use traffic::Traffic;
