//! A Kubernetes node built out of network namespaces, and what the end-to-end tests need on it.
//!
//! One [`Node`] = a netns with a bridge, an nftables DNAT that stands in for kube-proxy, a cgroup
//! tree like kubelet's, a directory of manifests. One [`Pod`] = a netns on that bridge, a cgroup, a
//! process that holds both. [`Agent`] is the real binary on such a node.
//!
//! [`cluster`] is the other rig: a real Kubernetes of several nodes on this machine.
//!
//! Nothing here knows the agent's code: the harness sees what a user sees. Everything is removed
//! on drop; what a killed run leaves behind is swept by the next one.

pub mod admin;
mod agent;
mod cgroup;
pub mod cluster;
mod config;
pub mod echo;
mod kube_proxy;
mod load;
pub mod manifest;
mod netns;
mod nginx;
mod node;
mod pod;
mod process;
mod run_id;
mod scene;
mod service;
mod wait;

pub use agent::{Agent, AgentOptions};
pub use cgroup::{Layout, is_of_pod};
pub use config::ConfigDir;
pub use load::{Attempt, Failure, Load, Report, Running, now_us};
pub use netns::Netns;
pub use nginx::NGINX_BODY;
pub use node::{Node, NodeOptions};
pub use pod::{Pod, PodOptions};
pub use process::{Finished, Process, tool};
pub use scene::Scene;
pub use service::{Service, ServiceOptions};
pub use wait::{PATIENCE, slowness, until, until_some, until_some_within};
