//! When a pod's entry in the map is not enough: a hook is gone, or the heartbeat is stale.

use std::time::Duration;

use crate::status::{PodStatus, ProgramStatus};

use super::STALE_AFTER;

/// What keeps the hooks from capturing a pod that has its entry in their map.
#[derive(Debug, PartialEq)]
pub(super) struct Lapse {
    /// Whether its IPv4 connections are captured all the same.
    pub(super) captured: bool,
    /// In words, for `status pods`.
    pub(super) reason: String,
}

/// The lapse there is now, if any.
pub(super) fn lapse(programs: &[ProgramStatus], heartbeat: Duration) -> Option<Lapse> {
    let gone: Vec<_> = programs
        .iter()
        .filter(|program| !program.attached)
        .map(|program| program.name.as_str())
        .collect();
    if heartbeat > STALE_AFTER {
        let reason = format!(
            "stale: a worker's heartbeat is {} ms old",
            heartbeat.as_millis()
        );
        return Some(Lapse {
            captured: false,
            reason,
        });
    }
    (!gone.is_empty()).then(|| Lapse {
        captured: !gone.contains(&"connect4"),
        reason: format!("detached: {}", gone.join(", ")),
    })
}

/// What `explain` says of a pod: the state in the kernel, not the decision.
pub(super) fn in_effect(pod: &PodStatus) -> String {
    let state = match (pod.captured, &*pod.reason) {
        (true, "") => "captured".to_owned(),
        (true, reason) => format!("captured in part ({reason})"),
        (false, reason) => format!("not captured ({reason}): what follows would hold if it were"),
    };
    format!("{}/{}: {state}", pod.namespace, pod.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(detached: &[&str]) -> Vec<ProgramStatus> {
        let program = |name: &&str| ProgramStatus {
            name: (*name).to_owned(),
            attached: !detached.contains(name),
            ..ProgramStatus::default()
        };
        ["connect4", "connect6", "sock_ops"]
            .iter()
            .map(program)
            .collect()
    }

    #[test]
    fn a_pod_is_not_captured_while_the_hook_is_detached_or_the_heartbeat_stale() {
        let fresh = Duration::from_millis(100);
        assert_eq!(lapse(&programs(&[]), fresh), None);
        let detached = lapse(&programs(&["connect4"]), fresh).expect("a lapse");
        assert_eq!(
            (detached.captured, &*detached.reason),
            (false, "detached: connect4")
        );
        let stale = lapse(&programs(&[]), Duration::from_secs(4)).expect("a lapse");
        assert!(!stale.captured && stale.reason.contains("4000 ms"));
    }

    #[test]
    fn a_pod_is_captured_in_part_while_another_hook_is_detached() {
        let lapse = lapse(&programs(&["connect6"]), Duration::ZERO).expect("a lapse");
        assert!(lapse.captured);
        let pod = PodStatus {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            captured: lapse.captured,
            reason: lapse.reason,
            ..PodStatus::default()
        };
        assert_eq!(
            in_effect(&pod),
            "shop/web: captured in part (detached: connect6)"
        );
    }
}
