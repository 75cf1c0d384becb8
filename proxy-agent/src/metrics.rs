//! What the agent counts, and how it is read. Writing a counter takes no lock and shares no cache
//! line between workers; adding up happens when somebody asks.

mod exposition;
pub mod traffic;

pub use exposition::encode;
