//! What decides whether a Service port's connections go direct, and how: the Service's annotations
//! and its `sessionAffinity`.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;

use super::index::At;
use super::problems::Problems;
use super::service::{Declared, Port};
use crate::model::{DirectPolicy, ListenerProtocol, ListenerVerdict, PassReason, StaleConnections};

/// On Services: who carries the connections.
const MODE: &str = "proxy-agent.io/mode";
/// On Services: what becomes of connections to an endpoint that is gone.
const STALE: &str = "proxy-agent.io/stale-connections";
/// `sessionAffinityConfig.clientIP.timeoutSeconds` when it is not given (API reference).
const AFFINITY: Duration = Duration::from_hours(3);

/// Who carries a Service's connections, where it says so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    /// Nobody: they go straight to an endpoint.
    Direct,
    /// The agent, whatever they speak.
    Proxy,
    /// The node's ordinary path.
    Pass,
}

/// The mode that a Service asks for.
pub(super) fn mode(at: &At<'_, Service>, problems: &mut Problems) -> Option<Mode> {
    let modes = [
        ("direct", Mode::Direct),
        ("proxy", Mode::Proxy),
        ("pass", Mode::Pass),
    ];
    annotation(at, MODE, &modes, problems)
}

/// What a Service says about its direct connections.
pub(super) fn policy(at: &At<'_, Service>, problems: &mut Problems) -> DirectPolicy {
    let names = [StaleConnections::Close, StaleConnections::Keep].map(|one| (one.name(), one));
    DirectPolicy {
        affinity: affinity(at, problems),
        stale: annotation(at, STALE, &names, problems).unwrap_or_default(),
    }
}

/// The value of an annotation, of those that are accepted.
fn annotation<T: Copy>(
    at: &At<'_, Service>,
    name: &str,
    accepted: &[(&str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let text = at.object.metadata.annotations.as_ref()?.get(name)?;
    let found = accepted.iter().find(|(word, _)| word == text);
    if found.is_none() {
        let words: Vec<_> = accepted.iter().map(|(word, _)| *word).collect();
        let reason = format!("found `{text}`, accepted: {}", words.join(", "));
        problems.error(at.located, format!("metadata.annotations[{name}]"), reason);
    }
    found.map(|(_, value)| *value)
}

fn affinity(at: &At<'_, Service>, problems: &mut Problems) -> Option<Duration> {
    const FIELD: &str = "spec.sessionAffinity";
    let spec = at.object.spec.as_ref()?;
    match spec.session_affinity.as_deref()? {
        "None" => return None,
        "ClientIP" => {}
        other => {
            let reason = format!("found `{other}`, accepted: None, ClientIP");
            problems.error(at.located, FIELD, reason);
            return None;
        }
    }
    let config = spec.session_affinity_config.as_ref();
    let client_ip = config.and_then(|config| config.client_ip.as_ref());
    let Some(seconds) = client_ip.and_then(|config| config.timeout_seconds) else {
        return Some(AFFINITY);
    };
    match u64::try_from(seconds) {
        Ok(seconds @ 1..=86_400) => Some(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => {
            let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
            let reason = format!("found {seconds}, accepted: 1 to 86400");
            problems.error(at.located, field, reason);
            Some(AFFINITY)
        }
    }
}

/// What the hooks do with connections to a port. `routed`: something says more of them than which
/// Services they are shared out to.
pub(super) fn verdict(port: &Port, protocol: ListenerProtocol, routed: bool) -> ListenerVerdict {
    match (port.pass, port.mode) {
        (Some(reason), _) => ListenerVerdict::Pass(reason),
        (None, Some(Mode::Pass)) => ListenerVerdict::Pass(PassReason::Mode),
        (None, Some(Mode::Direct)) => ListenerVerdict::Direct,
        (None, Some(Mode::Proxy)) => ListenerVerdict::Proxy(protocol),
        (None, None) if routed || protocol == ListenerProtocol::Http => {
            ListenerVerdict::Proxy(protocol)
        }
        (None, None) => ListenerVerdict::Direct,
    }
}

/// Why routes have no effect on a port, if they have none.
pub(super) fn without_routes(port: &Port) -> Option<String> {
    if let Some(reason) = port.pass {
        return Some(format!("its connections pass ({})", reason.name()));
    }
    match port.mode? {
        Mode::Direct => Some("its connections go direct (annotation mode)".to_owned()),
        Mode::Pass => Some("its connections pass (mode)".to_owned()),
        Mode::Proxy => None,
    }
}

/// Names affinity that is not kept: requests of one connection go to several endpoints.
pub(super) fn warn_of_affinity(at: &At<'_, Service>, ports: &[Port], problems: &mut Problems) {
    let is_proxied = |port: &&Port| {
        let http = matches!(port.declared, Declared::Http(_)) && port.mode.is_none();
        port.pass.is_none() && (http || port.mode == Some(Mode::Proxy))
    };
    let Some(port) = ports.iter().find(is_proxied) else {
        return;
    };
    if port.direct.affinity.is_some() {
        let number = port.number;
        let reason = format!(
            "`ClientIP` is kept for direct connections alone, and those to port {number} are proxied"
        );
        problems.warning(at.located, "spec.sessionAffinity", reason);
    }
}
