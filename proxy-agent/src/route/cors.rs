//! Requests of a browser's scripts from another origin (Fetch standard, section 3.2): preflights
//! are answered here, responses carry what the rule allows.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use crate::model::{Cors, Listed, StringMatch};

/// What follows for one request.
#[derive(Debug)]
pub enum Ruling<'c> {
    /// It goes on; if its origin is allowed, that is told with the response.
    GoOn(Option<Allowed<'c>>),
    /// It is a preflight; these are the headers of its answer, whose status is 204.
    Answer(HeaderMap),
}

/// Rules on a request.
pub fn rule<'c, B>(cors: &'c Cors, request: &Request<B>) -> Ruling<'c> {
    let asked = request.headers();
    let Some(origin) = asked.get(ORIGIN) else {
        return Ruling::GoOn(None);
    };
    let allowed = is_allowed(cors, origin);
    let preflight =
        request.method() == Method::OPTIONS && asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    match (preflight, allowed) {
        (true, true) => Ruling::Answer(preflight_head(cors, origin, asked)),
        (true, false) if !cors.forward_unmatched => Ruling::Answer(HeaderMap::new()),
        (_, allowed) => Ruling::GoOn(allowed.then(|| Allowed {
            cors,
            origin: origin.clone(),
        })),
    }
}

/// An origin whose scripts may see the response.
#[derive(Debug)]
pub struct Allowed<'c> {
    cors: &'c Cors,
    origin: HeaderValue,
}

impl Allowed<'_> {
    /// Says so in a response's headers, in place of what the application says.
    pub fn tell(self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin);
        headers.append(VARY, HeaderValue::from_static("Origin"));
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        if self.cors.credentials {
            let allowed = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, allowed);
        }
        if let Some(exposed) = &self.cors.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}

fn is_allowed(cors: &Cors, origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| {
        let holds = |condition: &StringMatch| match condition {
            StringMatch::Exact(expected) => expected.eq_ignore_ascii_case(origin),
            StringMatch::Prefix(_) | StringMatch::Regex(_) | StringMatch::Present => {
                condition.holds(origin)
            }
        };
        cors.origins.iter().any(holds)
    })
}

fn preflight_head(cors: &Cors, origin: &HeaderValue, asked: &HeaderMap) -> HeaderMap {
    let mut head = HeaderMap::new();
    let origin = origin.clone();
    Allowed { cors, origin }.tell(&mut head);
    head.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
    let lists: [(HeaderName, &Listed, HeaderName); 2] = [
        (
            ACCESS_CONTROL_ALLOW_METHODS,
            &cors.methods,
            ACCESS_CONTROL_REQUEST_METHOD,
        ),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            &cors.headers,
            ACCESS_CONTROL_REQUEST_HEADERS,
        ),
    ];
    for (name, listed, request) in lists {
        let value = match listed {
            Listed::Nothing => None,
            Listed::Asked => asked.get(request).cloned(),
            Listed::Names(names) => Some(names.clone()),
        };
        head.extend(value.map(|value| (name, value)));
    }
    let max_age = cors.max_age.clone();
    head.extend(max_age.map(|value| (ACCESS_CONTROL_MAX_AGE, value)));
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors() -> Cors {
        Cors {
            origins: vec![StringMatch::Exact("https://a.example".into())],
            methods: Listed::Names(HeaderValue::from_static("GET, PUT")),
            headers: Listed::Asked,
            expose: Some(HeaderValue::from_static("x-a")),
            max_age: Some(HeaderValue::from_static("5")),
            credentials: true,
            forward_unmatched: false,
        }
    }

    fn request(method: Method, headers: &[(HeaderName, &'static str)]) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        request
    }

    fn preflight(origin: &'static str) -> Request<()> {
        request(
            Method::OPTIONS,
            &[
                (ORIGIN, origin),
                (ACCESS_CONTROL_REQUEST_METHOD, "PUT"),
                (ACCESS_CONTROL_REQUEST_HEADERS, "x-b"),
            ],
        )
    }

    #[test]
    fn a_preflight_of_an_allowed_origin_is_answered_with_what_is_allowed() {
        let Ruling::Answer(head) = rule(&cors(), &preflight("https://A.example")) else {
            panic!("no answer");
        };
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_ORIGIN, "https://A.example"),
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, PUT"),
            (ACCESS_CONTROL_ALLOW_HEADERS, "x-b"),
            (ACCESS_CONTROL_MAX_AGE, "5"),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
        ] {
            assert_eq!(head[&name], value, "{name}");
        }
        assert!(!head.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS));
    }

    #[test]
    fn a_preflight_of_another_origin_is_answered_with_nothing_or_goes_on() {
        let Ruling::Answer(head) = rule(&cors(), &preflight("https://b.example")) else {
            panic!("no answer");
        };
        assert!(head.is_empty());
        let forward = Cors {
            forward_unmatched: true,
            ..cors()
        };
        let ruling = rule(&forward, &preflight("https://b.example"));
        assert!(matches!(ruling, Ruling::GoOn(None)), "{ruling:?}");
    }

    #[test]
    fn other_requests_go_on_and_only_allowed_origins_get_headers() {
        let options = request(Method::OPTIONS, &[(ORIGIN, "https://a.example")]);
        assert!(matches!(rule(&cors(), &options), Ruling::GoOn(Some(_))));
        let cors = cors();
        for (origin, allowed) in [("https://a.example", true), ("https://a.example.b", false)] {
            let request = request(Method::GET, &[(ORIGIN, origin)]);
            let Ruling::GoOn(found) = rule(&cors, &request) else {
                panic!("answered");
            };
            assert_eq!(found.is_some(), allowed, "{origin}");
        }
        let ruling = rule(&cors, &request(Method::GET, &[]));
        assert!(matches!(ruling, Ruling::GoOn(None)), "{ruling:?}");
    }

    #[test]
    fn what_the_rule_allows_replaces_what_the_application_says() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        let without = Cors {
            credentials: false,
            ..cors()
        };
        let origin = HeaderValue::from_static("https://a.example");
        let allowed = Allowed {
            cors: &without,
            origin: origin.clone(),
        };
        allowed.tell(&mut headers);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], origin);
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "x-a");
    }
}
