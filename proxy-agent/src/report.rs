//! What is written back to the API server: the state of routes, by one elected agent, and events
//! about pods of this node that could not be captured.
//!
//! Reads the same snapshot that is in force. Must not decide what a state is (`compile` and
//! `capture` do), nor touch what other controllers wrote.

mod election;
mod events;
mod parents;
mod routes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::capture::CaptureStatus;
use crate::model::Snapshot;
use crate::objects::ObjectSet;

pub use self::election::{Candidate, LeaseView, Terms};
pub use self::parents::CONTROLLER;

/// Time between two writes: a thousand changed routes take a minute, and the server is not flooded.
const PACE: Duration = Duration::from_millis(50);

/// The API server that is written to.
#[derive(Clone)]
pub struct Cluster {
    /// The way to it.
    pub client: Client,
    /// What it holds: nothing is written about objects of other sources.
    pub objects: watch::Receiver<Arc<ObjectSet>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

/// Everything that the reports are made of.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where they go.
    pub cluster: Cluster,
    /// The configuration in force.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// State of this node's pods.
    pub capture: CaptureStatus,
    /// Who writes.
    pub identity: Identity,
    /// Where it is told which agent writes the state of routes.
    pub lease: LeaseView,
}

/// The agent as the API server knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Namespace of its pod; outside of a pod it is unknown, and no route's state is written.
    pub namespace: Option<String>,
    /// Name of its pod, else of its node.
    pub name: String,
}

impl Identity {
    /// As the pod's environment says, else that of the node of this name.
    pub fn of(node: &str) -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            namespace: variable("POD_NAMESPACE"),
            name: variable("POD_NAME").unwrap_or_else(|| node.to_owned()),
        }
    }
}

impl Report {
    /// Writes until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let events = events::run(self.clone());
        let routes = async {
            match &self.identity.namespace {
                Some(namespace) => self.elected(namespace, &stop).await,
                None => {
                    tracing::info!("POD_NAMESPACE is not set: the state of routes is not written");
                }
            }
        };
        tokio::join!(stop.run_until_cancelled(events), routes);
    }

    /// Writes the state of routes whenever this agent is the elected one.
    async fn elected(&self, namespace: &str, stop: &CancellationToken) {
        let name = &self.identity.name;
        let candidate = Candidate::new(
            self.cluster.client.clone(),
            namespace,
            name,
            Terms::default(),
            self.lease.clone(),
        );
        let elected = candidate.elected();
        let writing = async {
            let mut elected = elected;
            // The sender is gone only when the candidate is.
            while elected.wait_for(|elected| *elected).await.is_ok() {
                tracing::info!("elected: this agent writes the state of routes");
                let mut lost = elected.clone();
                let kinds = routes::KINDS.map(|kind| routes::run(self.clone(), kind));
                tokio::select! {
                    // They end with everything that they read.
                    _all = join_all(kinds) => return,
                    _lost = lost.wait_for(|elected| !*elected) => {}
                }
            }
        };
        let standing = candidate.run(stop);
        tokio::select! {
            () = standing => {}
            () = writing => {}
        }
    }
}
