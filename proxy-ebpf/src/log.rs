//! The programs' messages, at a bounded rate.
//!
//! What happens once a connection is `debug` when it is the agent's business and `trace` when
//! not. `AYA_LOG_LEVEL` is constant after load, so the verifier removes what is off.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_log_ebpf::macro_support::{Level, level_enabled};
use proxy_ebpf::{Stat, bounds};

use crate::maps::LOG_WINDOW;
use crate::stats;

/// One second.
const WINDOW_NS: u64 = 1_000_000_000;

/// What this CPU has logged in the current second.
#[repr(C)]
pub(crate) struct Window {
    since_ns: u64,
    lines: u64,
}

/// Whether a line of `level` may be written now; if only the rate forbids it, counts it.
#[inline(always)]
pub(crate) fn admits(level: Level) -> bool {
    if !level_enabled(level) {
        return false;
    }
    let Some(window) = LOG_WINDOW.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the helper takes no argument.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the map lookup returned this CPU's slot, which nothing else uses while this runs.
    let window = unsafe { &mut *window };
    if now_ns.saturating_sub(window.since_ns) >= WINDOW_NS {
        window.since_ns = now_ns;
        window.lines = 0;
    }
    if window.lines >= bounds::LOG_LINES_PER_SECOND {
        stats::count(Stat::LogDropped);
        return false;
    }
    window.lines += 1;
    true
}
