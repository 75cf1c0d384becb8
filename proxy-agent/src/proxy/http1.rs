//! HTTP/1.1 messages, as both sides have them: what a head says of the body, how bodies are framed,
//! what was read and what waits to be written.

mod chunked;
#[cfg(test)]
mod damage;
pub(super) mod fields;
mod framing;
mod inbox;
mod lines;
mod outbox;
mod outgoing;

pub(super) use chunked::ChunkError;
#[cfg(test)]
pub(super) use damage::damaged;
pub(super) use fields::{HeadError, Looked, Said};
pub use framing::Whole;
pub(super) use framing::{Framing, Step};
pub(super) use inbox::Inbox;
pub(super) use lines::FieldLines;
pub(super) use outbox::{Outbox, field};
pub(super) use outgoing::{Mismatch, Outgoing, Trailers};
