//! The usual scene: echo pods behind one Service, a captured client, an agent.

use anyhow::Result;

use crate::agent::{Agent, AgentOptions};
use crate::node::Node;
use crate::pod::Pod;
use crate::service::{Service, ServiceOptions};

/// Service `web` on a node, everything ready when it is made.
#[derive(Debug)]
pub struct Scene {
    // In the order of removal: the agent goes first, as it does when a node is shut down.
    /// The agent.
    pub agent: Agent,
    /// A captured pod, `client`.
    pub client: Pod,
    /// Service `web`, port 80.
    pub web: Service,
    /// Its endpoints, `web-0`, `web-1` …
    pub servers: Vec<Pod>,
    /// The node.
    pub node: Node,
}

impl Scene {
    /// With this many echo pods.
    ///
    /// # Errors
    /// A part of it did not come up.
    pub fn new(servers: usize) -> Result<Self> {
        Self::with(servers, |service| service, |agent| agent)
    }

    /// With a Service and an agent that differ from the usual ones.
    ///
    /// # Errors
    /// A part of it did not come up.
    pub fn with(
        servers: usize,
        service: impl FnOnce(ServiceOptions) -> ServiceOptions,
        agent: impl FnOnce(AgentOptions<'_>) -> AgentOptions<'_>,
    ) -> Result<Self> {
        let node = Node::new()?;
        let servers = node.echo_pods("web", servers)?;
        let web = service(node.service("web")).to(&servers)?;
        let client = node.pod("client").captured().start()?;
        let agent = agent(AgentOptions::new(&node)).start()?;
        agent.wait_captured([&client])?;
        agent.wait_endpoints(&web, servers.len())?;
        Ok(Self {
            agent,
            client,
            web,
            servers,
            node,
        })
    }
}
