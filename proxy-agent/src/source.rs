//! Where objects come from. A source reads and watches; what objects mean is `compile`'s.

pub mod dns;
pub mod file;
pub mod kubernetes;
