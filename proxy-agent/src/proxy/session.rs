//! Sessions: which endpoint a request belongs to, told by a token that names none.
//!
//! A token is a keyed hash of the endpoint's address, of the session's beginning where it has an end,
//! and of its last request where it ends by idling. Every agent with the same rule finds the same
//! endpoint; nobody else learns its address.

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
    /// Seconds since 1970 at which it began; 0 for one without an end.
    begun_s: u64,
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
            begun_s: token.begun_s,
        })
    })
}

/// Tells the client the token of the endpoint that has answered, unless what it has says all:
/// `found` is the session that the request came with.
pub(super) fn keep(
    session: &Session,
    found: Option<&Found>,
    endpoint: SocketAddr,
    headers: &mut HeaderMap,
) {
    let same = found.filter(|found| found.endpoint.address == endpoint);
    if same.is_some() && session.idle_timeout.is_none() {
        return;
    }
    let now = seconds(SystemTime::now());
    let token = Token::new(session, endpoint, same.map(|found| found.begun_s), now);
    stamp(session, token, now, headers);
}

fn stamp(session: &Session, token: Token, now_s: u64, headers: &mut HeaderMap) {
    let (name, value) = match &session.carrier {
        SessionCarrier::Header(name) => (name.clone(), token.text()),
        SessionCarrier::Cookie { name, permanent } => {
            let mut cookie = format!("{name}={}; Path=/; HttpOnly", token.text());
            if let Some(limit) = session.absolute_timeout.filter(|_| *permanent) {
                let left = (token.begun_s + limit.as_secs()).saturating_sub(now_s);
                // Writing to a String cannot fail.
                let _infallible = write!(cookie, "; Max-Age={left}");
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
    /// Seconds since 1970 at which it was last used; 0 for one that may idle.
    used_s: u64,
}

impl Token {
    /// For an answer of `endpoint`, in a session that began at `begun_s` or begins now.
    fn new(session: &Session, endpoint: SocketAddr, begun_s: Option<u64>, now_s: u64) -> Self {
        let begun_s = session
            .absolute_timeout
            .map_or(0, |_| begun_s.unwrap_or(now_s));
        let used_s = session.idle_timeout.map_or(0, |_| now_s);
        Self {
            hash: hash(&session.key, [begun_s, used_s], endpoint),
            begun_s,
            used_s,
        }
    }

    /// The token of a request, unless its session is over.
    fn of(session: &Session, headers: &HeaderMap, now: SystemTime) -> Option<Self> {
        let token = match &session.carrier {
            SessionCarrier::Header(name) => Self::parse(headers.get(name)?.to_str().ok()?),
            SessionCarrier::Cookie { name, .. } => cookie(headers, name).and_then(Self::parse),
        }?;
        let alive = within(session.absolute_timeout, token.begun_s, now)
            && within(session.idle_timeout, token.used_s, now);
        alive.then_some(token)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let hash = parts.next()?;
        let digits = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hash.len() != 2 * HASH_BYTES || !digits {
            return None;
        }
        let mut time = || u64::from_str_radix(parts.next().unwrap_or("0"), 16).ok();
        let (begun_s, used_s) = (time()?, time()?);
        Some(Self {
            hash: u128::from_str_radix(hash, 16).ok()?.to_be_bytes(),
            begun_s,
            used_s,
        })
    }

    fn text(self) -> String {
        let hash = u128::from_be_bytes(self.hash);
        match (self.begun_s, self.used_s) {
            (0, 0) => format!("{hash:032x}"),
            (begun_s, 0) => format!("{hash:032x}.{begun_s:x}"),
            (begun_s, used_s) => format!("{hash:032x}.{begun_s:x}.{used_s:x}"),
        }
    }

    fn is_for(self, endpoint: SocketAddr, session: &Session) -> bool {
        hash(&session.key, [self.begun_s, self.used_s], endpoint) == self.hash
    }
}

/// Whether less than `limit` has passed since; without a limit a token tells no time.
fn within(limit: Option<Duration>, since_s: u64, now: SystemTime) -> bool {
    let Some(limit) = limit else {
        return since_s == 0;
    };
    let since = UNIX_EPOCH.checked_add(Duration::from_secs(since_s));
    // A time in the future was not told here, or the clock was set back: anew.
    let age = since.and_then(|since| now.duration_since(since).ok());
    age.is_some_and(|age| age < limit)
}

/// The hash of fields of known lengths: the key comes last, behind all that an outsider may know.
fn hash(key: &str, [begun_s, used_s]: [u64; 2], endpoint: SocketAddr) -> [u8; HASH_BYTES] {
    let ip = match endpoint {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    };
    let digest = Sha256::new()
        .chain_update(ip.octets())
        .chain_update(endpoint.port().to_be_bytes())
        .chain_update(begun_s.to_be_bytes())
        .chain_update(used_s.to_be_bytes())
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
            idle_timeout: None,
            key: "6f1c".into(),
        }
    }

    fn endpoint(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    /// What a client sends back after it was told of `endpoint`.
    fn returned(session: &Session, endpoint: SocketAddr) -> HeaderMap {
        let mut headers = HeaderMap::new();
        keep(session, None, endpoint, &mut headers);
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
        let token = Token::new(&session(None), endpoint(1), None, 0).text();
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
    fn a_session_ends_by_idling_however_old_it_is() {
        for absolute in [None, Some(24 * HOUR)] {
            let session = Session {
                idle_timeout: Some(HOUR),
                ..session(absolute)
            };
            let headers = returned(&session, endpoint(1));
            let now = SystemTime::now();
            let token = Token::of(&session, &headers, now + HOUR / 2).expect("in use");
            assert!(token.is_for(endpoint(1), &session));
            assert!(Token::of(&session, &headers, now + HOUR).is_none());
            let later_s = seconds(now + HOUR / 2);
            let next = Token::new(&session, endpoint(1), Some(token.begun_s), later_s);
            assert_eq!(Token::parse(&next.text()), Some(next));
            assert_eq!(next.begun_s, token.begun_s, "the beginning stays");
            assert_eq!(next.used_s, later_s);
        }
        let forged = Token {
            used_s: u64::MAX,
            ..Token::new(&session(None), endpoint(1), None, 0)
        };
        assert!(!forged.is_for(endpoint(1), &session(None)));
    }

    #[test]
    fn a_permanent_cookie_that_is_told_again_lives_no_longer() {
        let session = session(Some(HOUR));
        let mut headers = HeaderMap::new();
        let token = Token::new(&session, endpoint(1), Some(1_000), 1_600);
        stamp(&session, token, 1_600, &mut headers);
        let cookie = headers[SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("; Max-Age=3000"), "{cookie}");
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
            keep(&session, None, endpoint(1), &mut headers);
            let cookie = headers[SET_COOKIE].to_str().unwrap();
            assert_eq!(cookie.contains("; Max-Age=3600"), expected, "{cookie}");
        }
    }
}
