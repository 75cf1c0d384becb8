//! Choice of the endpoint for the next request. Pure: randomness and load are passed in.

mod draw;
mod p2c;
mod round_robin;

pub use draw::Draw;
pub use p2c::pick as least_request;
pub use round_robin::RoundRobin;

/// What a policy may know of an endpoint.
pub trait Load {
    /// Requests (or opaque connections) that are open on it now, as this worker sees it.
    fn in_flight(&self) -> u32;

    /// When it was last picked, as a count of picks; 0 = never. Breaks ties.
    fn last_pick(&self) -> u64;
}
