//! Durations as users write them.

use std::time::Duration;

/// Parses a duration of GEP-2257: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`. `None` if it is not one.
pub(super) fn gep2257(text: &str) -> Option<Duration> {
    let parts = parts(text)?;
    let short = |(digits, unit): &(&str, &str)| {
        let known = matches!(*unit, "h" | "m" | "s" | "ms");
        digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) && known
    };
    if parts.len() > 4 || !parts.iter().all(short) {
        return None;
    }
    sum(&parts)
}

/// Parses a duration as Go and protobuf's JSON write it: `1.5s`, `1h30m`, `250ms`, `0`.
pub(super) fn go(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    sum(&parts(text)?)
}

/// Splits `1h30m` into (`1`, `h`), (`30`, `m`).
fn parts(mut text: &str) -> Option<Vec<(&str, &str)>> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let rest = &text[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        parts.push((&text[..digits], &rest[..unit]));
        text = &rest[unit..];
    }
    (!parts.is_empty()).then_some(parts)
}

fn sum(parts: &[(&str, &str)]) -> Option<Duration> {
    parts
        .iter()
        .try_fold(Duration::ZERO, |sum, (digits, unit)| {
            let seconds = match *unit {
                "h" => 3_600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                // The micro sign, and the Greek letter, as Go has both.
                "us" | "\u{b5}s" | "\u{3bc}s" => 0.000_001,
                "ns" => 0.000_000_001,
                _ => return None,
            };
            let value: f64 = digits.parse().ok()?;
            sum.checked_add(Duration::try_from_secs_f64(value * seconds).ok()?)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_durations_are_those_of_gep_2257_and_no_others() {
        for (text, expected_ms) in [
            ("0s", Some(0)),
            ("10s", Some(10_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("1h1m1s1ms", Some(3_661_001)),
            ("1.5s", None),
            ("123456s", None),
            ("1h1h1h1h1h", None),
            ("10", None),
            ("s", None),
            ("", None),
            ("-1s", None),
            ("1d", None),
            ("0", None),
            ("1us", None),
            ("1ns", None),
        ] {
            let expected = expected_ms.map(Duration::from_millis);
            assert_eq!(gep2257(text), expected, "{text}");
        }
    }

    #[test]
    fn other_durations_are_those_of_go() {
        for (text, expected_us) in [
            ("1.5s", Some(1_500_000)),
            ("0s", Some(0)),
            ("0", Some(0)),
            ("1h.5s", Some(3_600_500_000)),
            ("250us", Some(250)),
            ("250\u{b5}s", Some(250)),
            ("250\u{3bc}s", Some(250)),
            ("5000ns", Some(5)),
            ("1..5s", None),
            ("1", None),
            ("00", None),
            ("-1s", None),
            ("1.s.", None),
        ] {
            assert_eq!(go(text), expected_us.map(Duration::from_micros), "{text}");
        }
    }
}
