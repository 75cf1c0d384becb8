//! The control plane: etcd, the API server and its two companions, on the first node.

use std::process::Command;

use anyhow::Result;

use super::access::{self, User};
use super::home::Home;
use super::node::Node;

/// One program of the control plane.
struct Component {
    name: &'static str,
    flags: &'static str,
}

const ETCD: Component = Component {
    name: "etcd",
    flags: include_str!("../../cluster/control-plane/etcd.flags"),
};
const API_SERVER: Component = Component {
    name: "kube-apiserver",
    flags: include_str!("../../cluster/control-plane/kube-apiserver.flags"),
};
const CONTROLLER_MANAGER: Component = Component {
    name: "kube-controller-manager",
    flags: include_str!("../../cluster/control-plane/kube-controller-manager.flags"),
};
const SCHEDULER: Component = Component {
    name: "kube-scheduler",
    flags: include_str!("../../cluster/control-plane/kube-scheduler.flags"),
};

/// Its programs, as a node knows them.
pub(super) const NAMES: [&str; 4] = [
    ETCD.name,
    API_SERVER.name,
    CONTROLLER_MANAGER.name,
    SCHEDULER.name,
];

/// Whom the API server itself gives the rights of these names to, beside the administrator.
const USERS: &[User<'_>] = &[
    User {
        file: "admin",
        name: "admin",
        group: "system:masters",
    },
    User {
        file: "kube-controller-manager",
        name: "system:kube-controller-manager",
        group: "system:components",
    },
    User {
        file: "kube-scheduler",
        name: "system:kube-scheduler",
        group: "system:components",
    },
    User {
        file: "kube-proxy",
        name: "system:kube-proxy",
        group: "system:components",
    },
];

/// Writes what the control plane reads; the tokens of nodes may follow until it starts.
pub(super) fn prepare(home: &Home) -> Result<()> {
    access::certificates(home)?;
    USERS.iter().try_for_each(|user| access::admit(home, *user))
}

/// Starts what keeps the objects.
pub(super) fn start_api(home: &Home, node: &Node) -> Result<()> {
    start(home, node, &ETCD)?;
    start_api_server(home, node)
}

/// Starts the API server alone.
pub(super) fn start_api_server(home: &Home, node: &Node) -> Result<()> {
    start(home, node, &API_SERVER)
}

/// Ends the API server; etcd keeps the objects.
pub(super) fn stop_api_server(node: &Node) -> Result<()> {
    node.stop(API_SERVER.name)
}

/// Starts what acts on the objects; the API server must answer.
pub(super) fn start_controllers(home: &Home, node: &Node) -> Result<()> {
    start(home, node, &CONTROLLER_MANAGER)?;
    start(home, node, &SCHEDULER)
}

fn start(home: &Home, node: &Node, component: &Component) -> Result<()> {
    let mut program: Command = node.program(component.name);
    program.args(home.flags(component.flags));
    node.start(component.name, program)
}
