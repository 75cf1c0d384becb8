//! The ABI between the eBPF programs and the agent: map keys, map values, names and bounds.
//!
//! Law of this crate: every type is `repr(C)` without implicit padding and with every bit
//! pattern valid, so that map memory can be read as it stands. Integers that come from packets
//! and sockets are byte arrays in network order; integers that only the two programs exchange
//! are native. Minimum kernel: 5.15 (netns cookies in sockops).

#![cfg_attr(not(test), no_std)]

mod abi;

pub use abi::channel::{Channel, Credit, CreditId, End, EndKey, WINDOW_BYTES};
pub use abi::endpoint::{
    Affinity, AffinityKey, EndpointKey, EndpointState, MemberKey, Slot, SlotKey,
};
pub use abi::flow::{DESTINATIONS_LAYOUT, FlowKey, OrigDst, octets};
pub use abi::frontend::{Choice, Direct, Frontend, FrontendKey, Verdict};
pub use abi::pair::Pair;
pub use abi::pod::{PodAddress, PodEntry, PodFlags};
pub use abi::settings::Settings;
pub use abi::share::{Group, Share};
pub use abi::socket::{SocketCell, SocketDst};
pub use abi::stat::Stat;
pub use abi::{bounds, global, map, program, v4_mapped};
