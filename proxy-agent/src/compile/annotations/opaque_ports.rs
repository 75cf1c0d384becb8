//! Lists of ports that are opaque: `config.linkerd.io/opaque-ports`, and a ServiceProfile's.

use std::ops::RangeInclusive;

use k8s_openapi::api::core::v1::Namespace;

use super::OPAQUE_PORTS;
use crate::compile::index::At;

/// Ports by number, by range and by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::compile) struct OpaquePorts {
    ranges: Vec<RangeInclusive<u16>>,
    names: Vec<String>,
}

impl OpaquePorts {
    /// Reads `4444,5555-5560,name`.
    ///
    /// # Errors
    /// A reason for the user.
    pub(in crate::compile) fn parse(text: &str) -> Result<Self, String> {
        let mut ports = Self::default();
        for word in text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            let numeric = word
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'-');
            if !numeric {
                ports.names.push(word.to_owned());
                continue;
            }
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0);
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => ports.ranges.push(first..=last),
                _ => {
                    return Err(format!(
                        "found `{word}`, expected a port, a range as in 5555-5560, or a port's name"
                    ));
                }
            }
        }
        Ok(ports)
    }

    /// Whether a port of a Service is among them.
    pub(in crate::compile) fn covers(&self, number: u16, name: &str) -> bool {
        let ranges = self.ranges.iter();
        let named = !name.is_empty() && self.names.iter().any(|one| one == name);
        named || ranges.into_iter().any(|range| range.contains(&number))
    }

    /// Adds others.
    pub(in crate::compile) fn extend(&mut self, others: Self) {
        self.ranges.extend(others.ranges);
        self.names.extend(others.names);
    }
}

/// Those that a namespace says of its Services; a value that cannot be read is none.
pub(in crate::compile) fn of_namespace(at: &At<'_, Namespace>) -> Option<OpaquePorts> {
    let annotations = at.object.metadata.annotations.as_ref()?;
    OpaquePorts::parse(annotations.get(OPAQUE_PORTS)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_listed_by_number_range_and_name() {
        let ports = OpaquePorts::parse("25, 4444-4446,db").expect("ports");
        let covered = [(25, ""), (4444, ""), (4446, "x"), (1, "db")];
        let others = [(26, ""), (4443, ""), (4447, ""), (1, "")];
        assert!(covered.iter().all(|(port, name)| ports.covers(*port, name)));
        assert!(!others.iter().any(|(port, name)| ports.covers(*port, name)));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["0", "65536", "5-4", "5-", "-", "1,70000"] {
            assert!(OpaquePorts::parse(text).is_err(), "{text}");
        }
        assert_eq!(OpaquePorts::parse(""), Ok(OpaquePorts::default()));
    }
}
