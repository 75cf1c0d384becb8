//! Whether a node that was handed over is without agent again. Takes nothing itself.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::capture::cgroup::RootLock;

use super::handover::Successor;

/// Time between looks at the lock.
const LOOK: Duration = Duration::from_millis(500);
/// For how long the node must be free: a successor that failed is started again, and is the one to
/// have it.
const FREE: Duration = Duration::from_secs(3);

/// Returns when the successor has ended and nobody has taken the node since. As long as somebody
/// has it, whoever that is, there is nothing to come back for.
pub(super) async fn of(root: &Path, successor: &Successor) {
    successor.gone().await;
    tracing::warn!(
        successor = successor.name,
        "it has ended; looking whether the node is free"
    );
    let mut free_since = None;
    loop {
        match RootLock::take(root) {
            Ok(lock) => {
                drop(lock);
                if free_since.get_or_insert_with(Instant::now).elapsed() >= FREE {
                    return;
                }
            }
            // Taken; or what cannot be locked at all is nothing to come back for either.
            Err(_taken) => free_since = None,
        }
        sleep(LOOK).await;
    }
}
