//! Durations as users write them.

use std::time::Duration;

/// Parses a duration of GEP-2257: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`. `None` if it is not one.
pub(super) fn gep2257(text: &str) -> Option<Duration> {
    let parts = parts(text)?;
    let short = |(digits, unit): &(&str, &str)| {
        digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) && unit.len() <= 2
    };
    if parts.len() > 4 || !parts.iter().all(short) {
        return None;
    }
    sum(&parts)
}

/// Parses a duration as Go and protobuf's JSON write it: `1.5s`, `1h30m`, `250ms`.
pub(super) fn go(text: &str) -> Option<Duration> {
    sum(&parts(text)?)
}

/// Splits `1h30m` into (`1`, `h`), (`30`, `m`).
fn parts(mut text: &str) -> Option<Vec<(&str, &str)>> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let rest = &text[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
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
        ] {
            let expected = expected_ms.map(Duration::from_millis);
            assert_eq!(gep2257(text), expected, "{text}");
        }
    }

    #[test]
    fn istio_durations_may_have_fractions() {
        assert_eq!(go("1.5s"), Some(Duration::from_millis(1_500)));
        assert_eq!(go("0s"), Some(Duration::ZERO));
        assert_eq!(go("1..5s"), None);
    }
}
