//! Choice of the endpoint for the next request. Pure: randomness and load are passed in.

mod draw;
mod p2c;
mod round_robin;
mod weighted;

pub use draw::Draw;
pub use p2c::pick as least_request;
pub use round_robin::RoundRobin;
pub use weighted::{pick as weighted, random as weighted_random};

/// What a policy may know of an endpoint.
pub trait Load {
    /// Requests (or opaque connections) that are open on it now, as this worker sees it.
    fn in_flight(&self) -> u32;

    /// When it was last picked, as a count of picks; 0 = never. Breaks ties.
    fn last_pick(&self) -> u64;

    /// Its share beside the others, at least 1.
    fn weight(&self) -> u32;

    /// How much of its share it is owed: what [`weighted()`] keeps from one pick to the next.
    fn credit(&self) -> i64;

    /// Keeps it.
    fn set_credit(&self, credit: i64);
}
