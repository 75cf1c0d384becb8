//! Kubernetes' quantities as weights: `1`, `0.5`, `500m`, `2k`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A weight in thousandths; at most 4,294,967.295.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quantity(u32);

impl Quantity {
    /// In thousandths.
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// As a whole number, if it is one.
    pub const fn whole(self) -> Option<u32> {
        if self.0.is_multiple_of(1_000) {
            Some(self.0 / 1_000)
        } else {
            None
        }
    }

    /// Reads the notation of `resource.Quantity` in Kubernetes' apimachinery, without its powers of
    /// two and exponents, which no weight is written in.
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| c.is_ascii_alphabetic());
        let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
        let thousandths: u64 = match suffix {
            "m" => 1,
            "" => 1_000,
            "k" => 1_000_000,
            _ => return None,
        };
        let (units, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(units) || !digits(fraction) || (units.is_empty() && fraction.is_empty()) {
            return None;
        }
        let part = |text: &str| match text {
            "" => Some(0),
            text => text.parse::<u64>().ok(),
        };
        let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
        let value = part(units)? * scale + part(fraction)?;
        // Rounded up, as Kubernetes does.
        let rounded = (value * thousandths).div_ceil(scale);
        u32::try_from(rounded).ok().map(Self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity as in 1, 0.5 or 500m, at most 4294967")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Quantity, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Quantity, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Quantity, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
        Quantity::parse(text)
            .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, thousandths) in [
            ("1", Some(1_000)),
            ("0", Some(0)),
            ("500m", Some(500)),
            ("0.5", Some(500)),
            (".5", Some(500)),
            ("1.", Some(1_000)),
            ("1.5m", Some(2)),
            ("2k", Some(2_000_000)),
            ("0.0001", Some(1)),
            ("-1", None),
            ("", None),
            (".", None),
            ("m", None),
            ("1Ki", None),
            ("1e3", None),
            ("4294968", None),
            ("9999999999", None),
        ] {
            let read = Quantity::parse(text).map(Quantity::thousandths);
            assert_eq!(read, thousandths, "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_told_from_others() {
        let whole = |text| Quantity::parse(text).and_then(Quantity::whole);
        assert_eq!((whole("90"), whole("90.5")), (Some(90), None));
    }
}
