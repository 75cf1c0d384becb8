//! One transparent proxy per Kubernetes node.
//!
//! Layers; imports point down only, and modules of one layer meet only in the layer above.
//!
//! | layer | modules | what it is |
//! |---|---|---|
//! | L5 | [`cli`], [`agent`], [`admin`], [`client`], [`explain`], [`validate`], [`log`] | the application and its verbs |
//! | L4 | [`proxy`], [`capture`] | the two loops: data path, pods → hooks |
//! | L3 | [`bpf`], [`net`], [`source`] | mechanisms without policy |
//! | L2 | [`compile`], [`route`], [`balance`], [`outlier`], [`retry`], [`metrics`] | pure: no I/O, never awaits |
//! | L1 | [`model`], [`objects`], [`status`] | plain data |
//! | L0 | `proxy_ebpf` | what kernel and agent share |

pub mod admin;
pub mod agent;
pub mod balance;
pub mod bpf;
pub mod capture;
pub mod cli;
pub mod client;
pub mod compile;
pub mod explain;
pub mod log;
pub mod metrics;
pub mod model;
pub mod net;
pub mod objects;
pub mod outlier;
pub mod proxy;
pub mod report;
pub mod retry;
pub mod route;
pub mod source;
pub mod status;
pub mod validate;
