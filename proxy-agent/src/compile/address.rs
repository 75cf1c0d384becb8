//! Addresses for Services that come from files without one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// An IPv4 range, as in `10.111.0.0/16`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServiceCidr {
    network: Ipv4Addr,
    prefix: u8,
}

/// The range of Services from files unless `--service-cidr` says otherwise.
impl Default for ServiceCidr {
    fn default() -> Self {
        Self {
            network: Ipv4Addr::new(10, 111, 0, 0),
            prefix: 16,
        }
    }
}

/// Why a text is no range that can be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CidrError {
    /// Not of the form address/length.
    #[error("found `{found}`, expected an IPv4 range as in 10.111.0.0/16")]
    Form {
        /// What was found.
        found: String,
    },
    /// Too small to hold one address beside network and broadcast, or larger than a /8.
    #[error("found /{prefix}, accepted: /8 to /30")]
    Size {
        /// The length that was found.
        prefix: u8,
    },
}

impl FromStr for ServiceCidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parts = text.split_once('/').and_then(|(address, prefix)| {
            Some((address.parse::<Ipv4Addr>().ok()?, prefix.parse().ok()?))
        });
        let (address, prefix) = parts.ok_or_else(|| CidrError::Form {
            found: text.to_owned(),
        })?;
        if !(8..=30).contains(&prefix) {
            return Err(CidrError::Size { prefix });
        }
        let network = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - prefix)));
        Ok(Self { network, prefix })
    }
}

impl fmt::Display for ServiceCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl ServiceCidr {
    /// Addresses between network and broadcast.
    fn hosts(self) -> u32 {
        (1 << (32 - self.prefix)) - 2
    }

    /// The address of `slot`, which is below [`Self::hosts`].
    fn host(self, slot: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1 + slot)
    }
}

/// Remembers the address that each Service was given, so that it never moves while it lives.
#[derive(Debug, Default)]
pub(super) struct Allocator {
    given: HashMap<String, Ipv4Addr>,
}

impl Allocator {
    /// Whether it remembers nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Gives every name an address of `cidr`. The same names give the same addresses in any
    /// process, but for names that collide. `taken` are never given. Names that find the range
    /// full are left out.
    pub(super) fn allocate(
        &mut self,
        cidr: ServiceCidr,
        names: &[String],
        taken: &HashSet<IpAddr>,
    ) -> BTreeMap<String, Ipv4Addr> {
        let current: HashSet<&String> = names.iter().collect();
        let hosts = cidr.hosts();
        // Addresses of Services that are gone stay reserved for their return while there is room.
        if self.given.len() + names.len() > usize::try_from(hosts / 2).unwrap_or(usize::MAX) {
            self.given.retain(|name, _| current.contains(name));
        }
        self.given
            .retain(|_, address| !taken.contains(&IpAddr::V4(*address)));
        let mut used: HashSet<Ipv4Addr> = self.given.values().copied().collect();
        let mut given = BTreeMap::new();
        for name in names {
            let known = self.given.get(name).copied();
            let address = known.or_else(|| {
                let first = fnv1a(name) % hosts;
                (0..hosts)
                    .map(|step| cidr.host((first + step) % hosts))
                    .find(|address| {
                        !used.contains(address) && !taken.contains(&IpAddr::V4(*address))
                    })
            });
            if let Some(address) = address {
                used.insert(address);
                self.given.insert(name.clone(), address);
                given.insert(name.clone(), address);
            }
        }
        given
    }
}

/// FNV-1a, 32 bits (draft-eastlake-fnv-17, section 2): the same in every build, unlike std's.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("ns/service-{n}")).collect()
    }

    #[test]
    fn ranges_are_parsed_and_errors_say_what_is_accepted() {
        let parse = |text: &str| text.parse::<ServiceCidr>().map(|cidr| cidr.to_string());
        assert_eq!(parse("10.1.2.3/16").as_deref(), Ok("10.1.0.0/16"));
        assert!(matches!(
            parse("10.0.0.0/31"),
            Err(CidrError::Size { prefix: 31 })
        ));
        for bad in ["", "10.0.0.0", "10.0.0/8", "fd00::/64", "10.0.0.0/x"] {
            assert!(matches!(parse(bad), Err(CidrError::Form { .. })), "{bad}");
        }
    }

    #[test]
    fn no_two_names_share_and_neither_network_nor_broadcast_is_given() {
        let cidr: ServiceCidr = "10.0.0.0/28".parse().expect("a range");
        let given = Allocator::default().allocate(cidr, &names(20), &HashSet::new());
        let distinct: HashSet<_> = given.values().collect();
        assert_eq!(
            (given.len(), distinct.len()),
            (14, 14),
            "a /28 has 14 hosts"
        );
        assert!(!distinct.contains(&Ipv4Addr::new(10, 0, 0, 0)));
        assert!(!distinct.contains(&Ipv4Addr::new(10, 0, 0, 15)));
    }

    #[test]
    fn an_address_never_moves_when_others_come_and_go() {
        let (cidr, none) = (ServiceCidr::default(), HashSet::new());
        let mut allocator = Allocator::default();
        let before = allocator.allocate(cidr, &names(1000)[500..], &none);
        let after = allocator.allocate(cidr, &names(1000), &none);
        assert!(before.iter().all(|(name, address)| after[name] == *address));
        assert_eq!(after.len(), 1000);
    }

    #[test]
    fn what_is_taken_by_a_service_with_an_address_of_its_own_is_not_given() {
        let cidr = ServiceCidr::default();
        let mut allocator = Allocator::default();
        let one = names(1);
        let first = allocator.allocate(cidr, &one, &HashSet::new())[&one[0]];
        let second = allocator.allocate(cidr, &one, &HashSet::from([first.into()]))[&one[0]];
        assert_ne!(first, second);
    }
}
