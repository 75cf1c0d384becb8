//! The policies of a rule in words.

use std::ops::RangeInclusive;

use crate::model::{
    AbortWith, Cors, DelayTime, Destination, Mirror, Policies, Retry, RetryBudget, RetryOn,
    Session, SessionCarrier, Share, Snapshot, StreamLimits,
};

/// One line for each policy, in the order in which they come to bear.
pub(super) fn lines(of: &Policies, snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(of.cors.as_ref().map(cors));
    if let Some(delay) = of.delay {
        let share = share(delay.share);
        let time = match delay.time {
            DelayTime::Fixed(time) => format!("{time:?}"),
            DelayTime::Exponential(mean) => format!("{mean:?} in the mean"),
        };
        lines.push(format!("holds {share} back for {time}"));
    }
    if let Some(abort) = of.abort {
        let share = share(abort.share);
        let with = match abort.with {
            AbortWith::Http(status) => status.as_u16().to_string(),
            AbortWith::Grpc(code) => format!("gRPC status {code}"),
        };
        lines.push(format!("answers {share} with {with} (fault_abort)"));
    }
    lines.extend(of.session.as_ref().map(session));
    lines.extend(of.mirrors.iter().map(|one| mirror(one, snapshot)));
    lines.extend(of.retry.as_ref().map(retry));
    if let Some(failures) = &of.failures {
        let words: Vec<_> = failures.iter().map(statuses).collect();
        let words = if words.is_empty() {
            "no status".to_owned()
        } else {
            words.join(", ")
        };
        lines.push(format!("counts {words} as failures"));
    }
    lines.extend(of.stream.iter().flat_map(stream));
    lines
}

fn cors(of: &Cors) -> String {
    let credentials = if of.credentials {
        ", with credentials"
    } else {
        ""
    };
    let origins = of.origins.len();
    format!("answers CORS preflights of {origins} allowed origins{credentials}")
}

fn session(of: &Session) -> String {
    let carrier = match &of.carrier {
        SessionCarrier::Cookie { name, .. } => format!("cookie {name}"),
        SessionCarrier::Header(name) => format!("header {name}"),
    };
    let limits = [
        (of.absolute_timeout, "at most"),
        (of.idle_timeout, "without a request"),
    ];
    let limits = limits.map(|(limit, what)| limit.map(|limit| format!(", for {limit:?} {what}")));
    let limits: String = limits.into_iter().flatten().collect();
    format!("keeps to one endpoint by the {carrier}{limits}")
}

fn mirror(of: &Mirror, snapshot: &Snapshot) -> String {
    let to = match of.to {
        Destination::Cluster(id) => snapshot.cluster(id).map_or("gone", |cluster| &cluster.name),
        Destination::Redirect(_) | Destination::Invalid => "nowhere: the reference is invalid",
    };
    format!("mirrors {} to {to}", share(of.share))
}

fn retry(of: &Retry) -> String {
    let mut line = format!("tries up to {} times more on {}", of.attempts, on(&of.on));
    if let Some(limit) = of.per_try {
        line.push_str(&format!(", each within {limit:?}"));
    }
    if let Some(of) = of.budget {
        line.push_str(&budget(of));
    }
    line
}

fn budget(of: RetryBudget) -> String {
    let percent = f64::from(of.per_million) / 10_000.0;
    format!(
        "; in {:?}, {percent} % of the requests and {} a second may be",
        of.ttl, of.min_per_second
    )
}

fn stream(of: &StreamLimits) -> Vec<String> {
    let whole = of
        .whole
        .map(|limit| format!("whole response within {limit:?}"));
    let idle = of
        .idle
        .map(|limit| format!("response never idle for {limit:?}"));
    whole.into_iter().chain(idle).collect()
}

fn on(of: &RetryOn) -> String {
    let mut words: Vec<String> = [
        ("connect failure", of.connect_failure),
        ("refused stream", of.refused_stream),
        ("reset", of.reset),
    ]
    .into_iter()
    .filter(|(_, there)| *there)
    .map(|(name, _)| name.to_owned())
    .collect();
    words.extend(of.statuses.iter().map(statuses));
    words.extend(of.grpc.iter().map(|code| format!("gRPC {code}")));
    words.join(", ")
}

fn statuses(range: &RangeInclusive<u16>) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last {
        return first.to_string();
    }
    format!("{first} to {last}")
}

fn share(of: Share) -> String {
    if of.numerator >= of.denominator {
        return "every request".to_owned();
    }
    let percent = 100.0 * f64::from(of.numerator) / f64::from(of.denominator);
    format!("{percent} % of the requests")
}
