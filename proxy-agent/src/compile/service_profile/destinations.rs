//! `spec.dstOverrides`.

use super::ServiceProfile;
use crate::compile::attach::{NO_DESTINATION, destination, respond};
use crate::compile::by_key::Name;
use crate::compile::index::At;
use crate::compile::istio;
use crate::compile::scope::Scope;
use crate::compile::service::Port;
use crate::model::{Action, ClusterId, Filters, WeightedDestination};

/// Where requests go instead of the Service's own endpoints.
#[derive(Debug)]
pub(super) struct Overrides {
    /// Namespace and name of each, its port if it names one, and its share.
    shares: Vec<(Result<Target, String>, u32)>,
}

#[derive(Debug)]
struct Target {
    service: Name,
    port: Option<u16>,
}

impl Overrides {
    /// Reads them; `None` if there is none.
    pub(super) fn compile(
        at: &At<'_, ServiceProfile>,
        service: &Name,
        scope: &mut Scope<'_>,
    ) -> Option<Self> {
        let from = &at.object.spec.dst_overrides;
        if from.is_empty() {
            return None;
        }
        let shares = from.iter().map(|one| {
            let to = target(&one.authority, &service.namespace);
            (to, one.weight.thousandths())
        });
        let shares: Vec<_> = shares.collect();
        if shares.iter().all(|(_, weight)| *weight == 0) {
            let reason = "no destination with a weight; every request is answered 500";
            scope
                .problems
                .error(at.located, "spec.dstOverrides", reason);
        }
        Some(Self { shares })
    }

    /// The action for requests to one port.
    pub(super) fn action(
        &self,
        at: &At<'_, ServiceProfile>,
        port: &Port,
        scope: &mut Scope<'_>,
    ) -> Action {
        if self.shares.iter().all(|(_, weight)| *weight == 0) {
            return respond(NO_DESTINATION);
        }
        let mut destinations = Vec::new();
        for (index, (target, weight)) in self.shares.iter().enumerate() {
            let resolved = target
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|target| resolve(target, port, scope))
                .map_err(|reason| ("authority", reason));
            let field = format!("spec.dstOverrides[{index}]");
            let to = destination(resolved, &field, at.located, &mut scope.problems);
            destinations.push(WeightedDestination::plain(*weight, to));
        }
        Action::Forward {
            filters: Filters::default(),
            destinations,
        }
    }
}

/// `host:port`, or a host alone.
fn target(authority: &str, namespace: &str) -> Result<Target, String> {
    let (host, port) = match authority.rsplit_once(':') {
        None => (authority, None),
        Some((host, port)) => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            let port = port.ok_or_else(|| format!("found `{authority}`, expected host:port"))?;
            (host, Some(port))
        }
    };
    let key = istio::parse_host(host, namespace);
    let key = key.ok_or_else(|| format!("found `{authority}`, which is no name of a Service"))?;
    Ok(Target {
        service: key.into(),
        port,
    })
}

fn resolve(target: &Target, asked: &Port, scope: &Scope<'_>) -> Result<ClusterId, String> {
    let key = target.service.key();
    if scope.service(key).is_none() {
        return Err(format!("no Service {}/{}", key.0, key.1));
    }
    let number = target.port.unwrap_or(asked.number);
    let port = scope.tcp_port(key, number);
    port.map(|port| port.id)
        .ok_or_else(|| scope.no_such_port(key, number.into()))
}
