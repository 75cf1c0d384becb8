//! Waiting for a state, never for a time.
//!
//! With `PROXY_E2E_SLOWNESS=N` in the environment everything may take N times as long: on an emulated
//! processor.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a state may take to come about before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

const INTERVAL: Duration = Duration::from_millis(2);

/// How much slower than others this machine is.
#[must_use]
pub fn slowness() -> u32 {
    let given = std::env::var("PROXY_E2E_SLOWNESS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Polls until `look` answers true.
///
/// # Errors
/// `what` did not come about within [`PATIENCE`] (more on a slow machine), or looking failed at the last moment.
pub fn until(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    until_some(what, || Ok(look()?.then_some(())))
}

/// Polls until `look` answers with a value. Errors of `look` count as "not yet".
///
/// # Errors
/// As [`until`]; the last error of `look` is the cause.
pub fn until_some<T>(what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_some_within(PATIENCE, what, look)
}

/// As [`until_some`], for states that take more than [`PATIENCE`] by their nature.
///
/// # Errors
/// As [`until_some`].
pub fn until_some_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let patience = patience * slowness();
    let deadline = Instant::now() + patience;
    loop {
        let seen = look();
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            seen.with_context(|| format!("waiting until {what}"))?;
            bail!("not within {patience:?}: {what}");
        }
        thread::sleep(INTERVAL);
    }
}
