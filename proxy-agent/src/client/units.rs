//! Numbers with units, for people.

use std::time::Duration;

/// `3m 12s`: whole seconds, the two largest units.
pub(super) fn seconds(s: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(s)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Below 10 s in milliseconds, else as [`seconds`].
pub(super) fn milliseconds(ms: u64) -> String {
    if ms < 10_000 {
        format!("{ms} ms")
    } else {
        seconds(ms / 1_000)
    }
}

/// `85 µs`, `1.2 ms`, `34 ms`, `2.5 s`.
pub(super) fn microseconds(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// `99.95 %`; never rounded up to 100.
pub(super) fn percent(share: f64) -> String {
    if share >= 1.0 {
        "100 %".to_owned()
    } else {
        format!("{:.2} %", (share * 10_000.0).floor() / 100.0)
    }
}

/// `1 error`, `2 errors`.
pub(super) fn count(n: usize, one: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_that_fits() {
        assert_eq!(seconds(0), "0s");
        assert_eq!(seconds(192), "3m 12s");
        assert_eq!(seconds(90_061), "1day 1h");
        assert_eq!(milliseconds(85), "85 ms");
        assert_eq!(milliseconds(61_000), "1m 1s");
        let latencies = [85, 1_250, 34_567, 2_500_000].map(microseconds);
        assert_eq!(latencies, ["85 µs", "1.2 ms", "34 ms", "2.5 s"]);
    }

    #[test]
    fn a_single_failure_is_never_rounded_away() {
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.999_999_9), "99.99 %");
        assert_eq!(percent(0.5), "50.00 %");
        assert_eq!(percent(0.0), "0.00 %");
    }
}
