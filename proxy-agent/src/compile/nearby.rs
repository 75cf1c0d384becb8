//! Which endpoints of a Service are for this node: `internalTrafficPolicy`, the hints of slices, and
//! `trafficDistribution` where there are no slices; as kube-proxy has it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ServiceSpec};

use super::index::Index;
use crate::model::Endpoint;
use crate::objects::{Origin, SliceHints};

/// Label of a node with its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The zone of the node of that name, if that is known.
pub(super) fn zone<'a>(index: &'a Index, node: &str) -> Option<&'a str> {
    let labels = index
        .get::<Node>(("", node))?
        .object
        .metadata
        .labels
        .as_ref();
    labels?.get(ZONE).map(String::as_str)
}

/// Where the agent is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here<'a> {
    /// `None` where nobody says: every endpoint is then used.
    node: Option<&'a str>,
    zone: Option<&'a str>,
}

/// An endpoint that could be used.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub endpoint: Endpoint,
    pub hints: Hints<'a>,
}

/// Whom an endpoint is meant for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hints<'a> {
    /// Nothing is said.
    None,
    /// As its slice has it.
    Given(&'a SliceHints),
    /// Its own zone.
    OwnZone,
    /// Its own node, and its own zone.
    OwnNode,
}

impl Hints<'_> {
    /// What Kubernetes writes into the slices of a Service, for one that has none.
    pub(super) fn of_distribution(spec: &ServiceSpec) -> Self {
        match spec.traffic_distribution.as_deref() {
            Some("PreferClose" | "PreferSameZone") => Self::OwnZone,
            Some("PreferSameNode") => Self::OwnNode,
            Some(_) | None => Self::None,
        }
    }
}

impl Candidate<'_> {
    fn nodes(&self) -> &[Arc<str>] {
        match self.hints {
            Hints::Given(hints) => &hints.nodes,
            Hints::OwnNode => self.endpoint.node.as_slice(),
            Hints::OwnZone | Hints::None => &[],
        }
    }

    fn zones(&self) -> &[Arc<str>] {
        match self.hints {
            Hints::Given(hints) => &hints.zones,
            Hints::OwnZone | Hints::OwnNode => self.endpoint.zone.as_slice(),
            Hints::None => &[],
        }
    }
}

impl<'a> Here<'a> {
    /// On the node of that name.
    pub(super) fn on(node: Option<&'a str>, index: &'a Index) -> Self {
        let zone = node.and_then(|node| zone(index, node));
        Self { node, zone }
    }

    /// Those to be used of the `ready` ones, or of the `leaving` ones where none is. From files, what
    /// names no node is on this one, as pods are.
    pub(super) fn choose(
        self,
        spec: &ServiceSpec,
        origin: Origin,
        ready: Vec<Candidate<'_>>,
        leaving: Vec<Endpoint>,
    ) -> Vec<Endpoint> {
        if let Some(node) = self.node
            && spec.internal_traffic_policy.as_deref() == Some("Local")
        {
            let is_here = |one: &Endpoint| match one.node.as_deref() {
                Some(of) => of == node,
                None => origin == Origin::Files,
            };
            let ready = ready.into_iter().map(|one| one.endpoint);
            let local: Vec<_> = ready.filter(is_here).collect();
            if !local.is_empty() {
                return local;
            }
            return leaving.into_iter().filter(is_here).collect();
        }
        if ready.is_empty() {
            return leaving;
        }
        self.nearest(ready)
    }

    fn nearest(self, ready: Vec<Candidate<'_>>) -> Vec<Endpoint> {
        let chosen = chosen(&ready, self.node, Candidate::nodes)
            .or_else(|| chosen(&ready, self.zone, Candidate::zones))
            .unwrap_or_else(|| vec![true; ready.len()]);
        let ready = ready.into_iter().zip(chosen);
        ready
            .filter_map(|(one, chosen)| chosen.then_some(one.endpoint))
            .collect()
    }
}

/// Which of the `ready` ones are meant for `here`: hints count only where every endpoint has some,
/// and one of them is for us.
fn chosen<'a>(
    ready: &[Candidate<'a>],
    here: Option<&str>,
    hinted: impl for<'c> Fn(&'c Candidate<'a>) -> &'c [Arc<str>],
) -> Option<Vec<bool>> {
    let here = here?;
    if ready.iter().any(|one| hinted(one).is_empty()) {
        return None;
    }
    let is_for = |one| hinted(one).iter().any(|name| **name == *here);
    let chosen: Vec<bool> = ready.iter().map(is_for).collect();
    chosen.contains(&true).then_some(chosen)
}
