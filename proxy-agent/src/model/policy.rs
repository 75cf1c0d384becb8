//! What a rule does to a request beside sending it on. Plain data; `retry.rs`, `route/` and the
//! proxy act on it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{Destination, StringMatch};

/// The policies of a rule. Most rules have none, and then there is no such value.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// When and how often a request is sent again.
    pub retry: Option<Retry>,
    /// Who gets a copy of the request.
    pub mirrors: Vec<Mirror>,
    /// Requests that are held back.
    pub delay: Option<Delay>,
    /// Requests that are answered by a failure.
    pub abort: Option<Abort>,
    /// What a browser's scripts of another origin may do.
    pub cors: Option<Cors>,
    /// Requests of one session go to one endpoint.
    pub session: Option<Session>,
    /// Statuses that count as failures; `None` for those from 500 on.
    pub failures: Option<Vec<RangeInclusive<u16>>>,
    /// Limits that go on after the response's head.
    pub stream: Option<StreamLimits>,
}

impl Policies {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        let answered_here = self.delay.is_some() || self.abort.is_some() || self.cors.is_some();
        let sent_on = self.retry.is_some() || self.session.is_some() || !self.mirrors.is_empty();
        let watched = self.failures.is_some() || self.stream.is_some();
        !answered_here && !sent_on && !watched
    }

    /// Whether the fields of a response are looked at, or others put beside them.
    pub fn reads_response(&self) -> bool {
        let retry = self.retry.as_ref();
        let by_grpc_status = retry.is_some_and(|retry| !retry.on.grpc.is_empty());
        by_grpc_status || self.cors.is_some() || self.session.is_some()
    }

    /// Whether a response of this status counts as a failure.
    pub fn is_failure(&self, status: u16) -> bool {
        match &self.failures {
            None => status >= 500,
            Some(failures) => failures.iter().any(|range| range.contains(&status)),
        }
    }
}

/// A share of requests, as a fraction; `denominator` is above 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// So many …
    pub numerator: u32,
    /// … of so many.
    pub denominator: u32,
}

impl Share {
    /// Every request.
    pub const ALL: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// Whether the request of the uniform random word `draw` is part of it.
    pub fn hits(self, draw: u32) -> bool {
        // The draw scaled to 0..denominator (Lemire 2019, doi:10.1145/3230636).
        (u64::from(draw) * u64::from(self.denominator)) >> 32 < u64::from(self.numerator)
    }
}

/// When and how often a request is sent again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Tries beyond the first, at most.
    pub attempts: u32,
    /// After which failures.
    pub on: RetryOn,
    /// Limit on each try; `None` leaves it to the rule's timeouts.
    pub per_try: Option<Duration>,
    /// How long to wait before the next try.
    pub backoff: Backoff,
    /// How many retries there may be beside requests; `None` for the share of those under way that
    /// every cluster allows.
    pub budget: Option<RetryBudget>,
}

/// How many retries there may be: a share of the requests of a while, and a few always.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetryBudget {
    /// Retries for each million requests.
    pub per_million: u32,
    /// Retries in each second that are allowed beside.
    pub min_per_second: u32,
    /// For how long a request counts; not zero.
    pub ttl: Duration,
}

impl Default for RetryBudget {
    /// Linkerd's: a fifth, and 10 a second.
    fn default() -> Self {
        Self {
            per_million: 200_000,
            min_per_second: 10,
            ttl: Duration::from_secs(10),
        }
    }
}

/// Limits on a request and its response that go on after the response's head.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StreamLimits {
    /// From the request's head to the response's end.
    pub whole: Option<Duration>,
    /// Between two parts of the response.
    pub idle: Option<Duration>,
}

/// After which failures a request is sent again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RetryOn {
    /// No endpoint took the connection.
    pub connect_failure: bool,
    /// The endpoint refused the HTTP/2 stream unseen.
    pub refused_stream: bool,
    /// The connection ended, or the try's time ran out, before the response's head.
    pub reset: bool,
    /// Response statuses.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// gRPC statuses, where the response's head has one.
    pub grpc: Vec<u16>,
}

/// How long to wait before a try: a random time below a bound that doubles with every try.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// Never shorter.
    pub floor: Duration,
    /// Bound before the first retry.
    pub base: Duration,
    /// The bound does not grow beyond this.
    pub cap: Duration,
}

impl Default for Backoff {
    /// Envoy's: 25 ms, and ten times that.
    fn default() -> Self {
        Self {
            floor: Duration::ZERO,
            base: Duration::from_millis(25),
            cap: Duration::from_millis(250),
        }
    }
}

/// Who gets a copy of a share of the requests; what it answers is dropped.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Where to; an invalid one gets nothing.
    pub to: Destination,
    /// Of which requests.
    pub share: Share,
    /// Whether the copy's host carries `-shadow` (Istio's does, Gateway API's does not).
    pub shadow_host: bool,
}

/// Requests that are held back before anything else is done with them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delay {
    /// How long.
    pub time: DelayTime,
    /// Which requests.
    pub share: Share,
}

/// How long a request is held back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DelayTime {
    /// As long as every other one.
    Fixed(Duration),
    /// Exponentially distributed, with this mean.
    Exponential(Duration),
}

impl DelayTime {
    /// The time of the request of the uniform random word `draw`; never more than 23 times the mean.
    pub fn of(self, draw: u32) -> Duration {
        match self {
            Self::Fixed(time) => time,
            Self::Exponential(mean) => {
                // Inverse of the distribution function; the word stands for a share above 0.
                let above = (f64::from(draw) + 1.0) / (f64::from(u32::MAX) + 1.0);
                mean.mul_f64(-above.ln())
            }
        }
    }
}

/// Requests that are answered by a failure instead of being sent on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Abort {
    /// The failure.
    pub with: AbortWith,
    /// Which requests.
    pub share: Share,
}

/// The failure of an [`Abort`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AbortWith {
    /// An HTTP status; gRPC requests get what corresponds to it.
    Http(StatusCode),
    /// A gRPC status, in a response of HTTP status 200.
    Grpc(u16),
}

/// What a browser's scripts of another origin may do (Fetch standard, section 3.2).
#[derive(Clone, Debug)]
pub struct Cors {
    /// Conditions on origins, one of which must hold; [`StringMatch::Present`] is any origin.
    pub origins: Vec<StringMatch>,
    /// `access-control-allow-methods` of a preflight's answer.
    pub methods: Listed,
    /// `access-control-allow-headers` of a preflight's answer.
    pub headers: Listed,
    /// `access-control-expose-headers` of the response.
    pub expose: Option<HeaderValue>,
    /// `access-control-max-age` of a preflight's answer.
    pub max_age: Option<HeaderValue>,
    /// Whether cookies and the like may be sent along.
    pub credentials: bool,
    /// Whether a preflight of any other origin goes to the application (Istio's default).
    pub forward_unmatched: bool,
}

/// A list of names that a preflight is answered with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listed {
    /// No such header in the answer.
    Nothing,
    /// Whatever the preflight asks for.
    Asked,
    /// These, joined with commas.
    Names(HeaderValue),
}

/// Requests of one session go to one endpoint as long as it is there.
#[derive(Clone, Debug)]
pub struct Session {
    /// What carries the session's token.
    pub carrier: SessionCarrier,
    /// Time after which a session begins anew.
    pub absolute_timeout: Option<Duration>,
    /// Time without a request after which it does.
    pub idle_timeout: Option<Duration>,
    /// Secret of the tokens, the same on every node: who does not know it learns nothing from a
    /// token and makes none.
    pub key: Arc<str>,
}

/// What carries a session's token.
#[derive(Clone, Debug)]
pub enum SessionCarrier {
    /// A cookie.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Whether it outlives the browser, until the absolute timeout.
        permanent: bool,
    },
    /// A header, of the response and of later requests.
    Header(HeaderName),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_delays_have_their_mean_and_an_end() {
        let delay = DelayTime::Exponential(Duration::from_millis(100));
        let draws = (0..10_000_u32).map(|step| step * (u32::MAX / 10_000));
        let sum: Duration = draws.map(|draw| delay.of(draw)).sum();
        let mean = (sum / 10_000).as_millis();
        assert!((95..=105).contains(&mean), "{mean}");
        assert_eq!(delay.of(u32::MAX), Duration::ZERO);
        assert!(delay.of(0) < Duration::from_millis(2_300));
        let fixed = DelayTime::Fixed(Duration::from_secs(1));
        assert_eq!(fixed.of(7), Duration::from_secs(1));
    }
}
