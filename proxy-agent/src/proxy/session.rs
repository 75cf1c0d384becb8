//! Sessions: which endpoint a request belongs to, told by a token that names none.
//!
//! A token is a keyed hash of the endpoint's address, and of the session's beginning where it has
//! an end. Every agent with the same rule finds the same endpoint; nobody else learns its address.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

use crate::model::{Destination, Session, SessionCarrier, WeightedDestination};

use super::load::EndpointState;
use super::worker::Worker;

/// Bytes of the hash that a token shows.
const HASH_BYTES: usize = 16;

/// A request's session: which of the rule's destinations, and which endpoint of it.
pub(super) struct Found {
    pub(super) destination: usize,
    pub(super) endpoint: Rc<EndpointState>,
}

/// The endpoint of a request's session, if it has one and the endpoint is still there.
pub(super) fn find(
    session: &Session,
    headers: &HeaderMap,
    destinations: &[WeightedDestination],
    worker: &Worker,
) -> Option<Found> {
    let token = Token::of(session, headers, SystemTime::now())?;
    let mut indexed = destinations.iter().enumerate();
    indexed.find_map(|(destination, one)| {
        let Destination::Cluster(id) = one.destination else {
            return None;
        };
        let cluster = worker.cluster(id)?;
        let mut endpoints = cluster.endpoints().iter();
        let endpoint = endpoints.find(|one| token.is_for(one.address, session))?;
        Some(Found {
            destination,
            endpoint: Rc::clone(endpoint),
        })
    })
}

/// Tells the client the token of the endpoint that has answered.
pub(super) fn stamp(session: &Session, endpoint: SocketAddr, headers: &mut HeaderMap) {
    let token = Token::new(session, endpoint, SystemTime::now());
    let (name, value) = match &session.carrier {
        SessionCarrier::Header(name) => (name.clone(), token.text()),
        SessionCarrier::Cookie { name, permanent } => {
            let mut cookie = format!("{name}={}; Path=/; HttpOnly", token.text());
            if let Some(limit) = session.absolute_timeout.filter(|_| *permanent) {
                // Writing to a String cannot fail.
                let _infallible = write!(cookie, "; Max-Age={}", limit.as_secs());
            }
            (SET_COOKIE, cookie)
        }
    };
    let Ok(value) = HeaderValue::try_from(value) else {
        return;
    };
    match session.carrier {
        SessionCarrier::Header(_) => headers.insert(name, value).is_some(),
        SessionCarrier::Cookie { .. } => headers.append(name, value),
    };
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Token {
    hash: [u8; HASH_BYTES],
    /// Seconds since 1970 at which the session began; 0 for one without an end.
    begun_s: u64,
}

impl Token {
    fn new(session: &Session, endpoint: SocketAddr, now: SystemTime) -> Self {
        let begun_s = session.absolute_timeout.map_or(0, |_| seconds(now));
        Self {
            hash: hash(&session.key, begun_s, endpoint),
            begun_s,
        }
    }

    /// The token of a request, unless its session is over.
    fn of(session: &Session, headers: &HeaderMap, now: SystemTime) -> Option<Self> {
        let token = match &session.carrier {
            SessionCarrier::Header(name) => Self::parse(headers.get(name)?.to_str().ok()?),
            SessionCarrier::Cookie { name, .. } => cookie(headers, name).and_then(Self::parse),
        }?;
        let Some(limit) = session.absolute_timeout else {
            return (token.begun_s == 0).then_some(token);
        };
        let begun = UNIX_EPOCH.checked_add(Duration::from_secs(token.begun_s))?;
        // One that begins in the future was not made here, or the clock was set back: anew.
        let age = now.duration_since(begun).ok()?;
        (age < limit).then_some(token)
    }

    fn parse(text: &str) -> Option<Self> {
        let (hash, begun) = text.split_once('.').unwrap_or((text, "0"));
        let digits = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hash.len() != 2 * HASH_BYTES || !digits {
            return None;
        }
        Some(Self {
            hash: u128::from_str_radix(hash, 16).ok()?.to_be_bytes(),
            begun_s: u64::from_str_radix(begun, 16).ok()?,
        })
    }

    fn text(self) -> String {
        let hash = u128::from_be_bytes(self.hash);
        match self.begun_s {
            0 => format!("{hash:032x}"),
            begun_s => format!("{hash:032x}.{begun_s:x}"),
        }
    }

    fn is_for(self, endpoint: SocketAddr, session: &Session) -> bool {
        hash(&session.key, self.begun_s, endpoint) == self.hash
    }
}

/// The hash of fields of known lengths: the key comes last, behind all that an outsider may know.
fn hash(key: &str, begun_s: u64, endpoint: SocketAddr) -> [u8; HASH_BYTES] {
    let ip = match endpoint {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    };
    let digest = Sha256::new()
        .chain_update(ip.octets())
        .chain_update(endpoint.port().to_be_bytes())
        .chain_update(begun_s.to_be_bytes())
        .chain_update(key)
        .finalize();
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(&digest[..HASH_BYTES]);
    hash
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let fields = headers.get_all(COOKIE).iter();
    let pairs = fields
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn session(absolute_timeout: Option<Duration>) -> Session {
        Session {
            carrier: SessionCarrier::Cookie {
                name: "s".into(),
                permanent: true,
            },
            absolute_timeout,
            key: "6f1c".into(),
        }
    }

    fn endpoint(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    /// What a client sends back after it was told of `endpoint`.
    fn returned(session: &Session, endpoint: SocketAddr) -> HeaderMap {
        let mut headers = HeaderMap::new();
        stamp(session, endpoint, &mut headers);
        let set = headers[SET_COOKIE].to_str().unwrap();
        let pair = set.split(';').next().unwrap();
        let cookie = format!("other=1; {pair}; more=2").parse().unwrap();
        HeaderMap::from_iter([(COOKIE, cookie)])
    }

    #[test]
    fn a_token_leads_to_its_endpoint_and_no_other() {
        for timeout in [None, Some(HOUR)] {
            let session = session(timeout);
            let headers = returned(&session, endpoint(1));
            let token = Token::of(&session, &headers, SystemTime::now()).expect("a token");
            assert!(token.is_for(endpoint(1), &session));
            assert!(!token.is_for(endpoint(2), &session));
            let other_key = Session {
                key: "7a2d".into(),
                ..session
            };
            assert!(!token.is_for(endpoint(1), &other_key));
        }
    }

    #[test]
    fn a_token_shows_nothing_of_the_address() {
        let token = Token::new(&session(None), endpoint(1), SystemTime::now()).text();
        assert_eq!(token.len(), 32);
        assert!(!token.contains("0a000001"), "{token}");
    }

    #[test]
    fn a_session_ends_at_its_absolute_timeout() {
        let session = session(Some(HOUR));
        let headers = returned(&session, endpoint(1));
        let now = SystemTime::now();
        assert!(Token::of(&session, &headers, now + HOUR / 2).is_some());
        assert!(Token::of(&session, &headers, now + HOUR).is_none());
        assert!(Token::of(&session, &headers, now - HOUR).is_none());
    }

    #[test]
    fn a_session_without_end_cannot_be_had_by_dropping_the_beginning() {
        let limited = session(Some(HOUR));
        let headers = returned(&session(None), endpoint(1));
        assert!(Token::of(&limited, &headers, SystemTime::now()).is_none());
    }

    #[test]
    fn what_is_no_token_is_no_session() {
        let ones = "1".repeat(32);
        for text in [
            "",
            "x",
            &ones[1..],
            &format!("{ones}1"),
            &format!("+{}", &ones[1..]),
        ] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
        assert!(Token::parse(&ones).is_some());
    }

    #[test]
    fn a_permanent_cookie_says_how_long_it_lives() {
        for (timeout, permanent, expected) in [
            (Some(HOUR), true, true),
            (Some(HOUR), false, false),
            (None, false, false),
        ] {
            let session = Session {
                carrier: SessionCarrier::Cookie {
                    name: "s".into(),
                    permanent,
                },
                ..session(timeout)
            };
            let mut headers = HeaderMap::new();
            stamp(&session, endpoint(1), &mut headers);
            let cookie = headers[SET_COOKIE].to_str().unwrap();
            assert_eq!(cookie.contains("; Max-Age=3600"), expected, "{cookie}");
        }
    }
}
