//! Says in the log when the agent stops being in effect, and when it is again. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::assemble::Parts;

/// Time between looks: a fault shows in the log well within 5 s.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks until `stop`; one line for each change, however long it lasts.
pub(super) async fn log(parts: Arc<Parts>, stop: CancellationToken) {
    let mut looks = interval_at(Instant::now() + PERIOD, PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = 0;
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        if parts.phase.get().reason().is_some() {
            // Said where it begins.
            continue;
        }
        let reasons = parts.not_ready(&parts.kernel.attached());
        // By number: the age of a heartbeat in a reason changes at each look.
        if reasons.len() != before {
            match &*reasons {
                [] => tracing::info!("ready again"),
                reasons => tracing::error!(reasons = reasons.join("; "), "not ready"),
            }
        }
        before = reasons.len();
    }
}
