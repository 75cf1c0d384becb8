//! The question of `/explain`, as a query string. Agent and client share it.

use form_urlencoded::Serializer;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// A request that a pod might send.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainQuery {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Method.
    pub method: Method,
    /// Absolute URL.
    pub url: Uri,
    /// Headers, without `Host`.
    pub headers: HeaderMap,
}

/// Why a query string is no question.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum QueryError {
    /// A parameter is not there.
    #[error("parameter `{name}` is missing; from, method and url are needed")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A parameter that does not exist.
    #[error("parameter `{name}` is unknown; there are from, method, url and header")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A parameter's value cannot be read.
    #[error("parameter `{name}`=`{value}` should be {expected}")]
    Value {
        /// Its name.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        expected: &'static str,
    },
}

impl ExplainQuery {
    /// Reads `from=NAMESPACE/POD&method=METHOD&url=URL[&header=NAME:VALUE]...`, form-encoded.
    ///
    /// # Errors
    ///
    /// Names the parameter that is wrong or missing.
    pub fn from_query(query: &str) -> Result<Self, QueryError> {
        let (mut from, mut method, mut url) = (None, None, None);
        let mut headers = HeaderMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "from" => from = Some(pod(&value)?),
                "method" => method = Some(parsed("method", &value, "an HTTP method")?),
                "url" => url = Some(absolute(&value)?),
                "header" => {
                    let (name, value) = header(&value)?;
                    headers.append(name, value);
                }
                other => {
                    return Err(QueryError::Unknown {
                        name: other.to_owned(),
                    });
                }
            }
        }
        let (namespace, pod) = from.ok_or(QueryError::Missing { name: "from" })?;
        Ok(Self {
            namespace,
            pod,
            method: method.ok_or(QueryError::Missing { name: "method" })?,
            url: url.ok_or(QueryError::Missing { name: "url" })?,
            headers,
        })
    }

    /// The query string that [`Self::from_query`] reads.
    pub fn to_query(&self) -> String {
        let mut query = Serializer::new(String::new());
        query
            .append_pair("from", &format!("{}/{}", self.namespace, self.pod))
            .append_pair("method", self.method.as_str())
            .append_pair("url", &self.url.to_string());
        for (name, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            query.append_pair("header", &format!("{name}:{value}"));
        }
        query.finish()
    }
}

fn parsed<T: std::str::FromStr>(
    name: &'static str,
    value: &str,
    expected: &'static str,
) -> Result<T, QueryError> {
    value.parse().ok().ok_or_else(|| QueryError::Value {
        name,
        value: value.to_owned(),
        expected,
    })
}

fn pod(value: &str) -> Result<(String, String), QueryError> {
    let parts = value.split_once('/');
    let parts = parts.filter(|(namespace, pod)| !namespace.is_empty() && !pod.is_empty());
    let (namespace, pod) = parts.ok_or_else(|| QueryError::Value {
        name: "from",
        value: value.to_owned(),
        expected: "NAMESPACE/POD",
    })?;
    Ok((namespace.to_owned(), pod.to_owned()))
}

fn absolute(value: &str) -> Result<Uri, QueryError> {
    let expected = "an absolute URL";
    let url: Uri = parsed("url", value, expected)?;
    if url.scheme().is_none() || url.authority().is_none() {
        return Err(QueryError::Value {
            name: "url",
            value: value.to_owned(),
            expected,
        });
    }
    Ok(url)
}

fn header(value: &str) -> Result<(HeaderName, HeaderValue), QueryError> {
    let expected = "NAME:VALUE";
    let parts = value.split_once(':').and_then(|(name, value)| {
        let name = name.trim().parse().ok()?;
        Some((name, value.trim().parse().ok()?))
    });
    parts.ok_or_else(|| QueryError::Value {
        name: "header",
        value: value.to_owned(),
        expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_question_is_read() {
        let query =
            "from=shop/web&method=GET&url=http%3A%2F%2Fcart%2Fa%3Fb%3Dc&header=x-a:1&header=x-a:+2";
        let query = ExplainQuery::from_query(query).unwrap();
        assert_eq!((&*query.namespace, &*query.pod), ("shop", "web"));
        assert_eq!(query.url.to_string(), "http://cart/a?b=c");
        assert_eq!(query.headers.get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |query| ExplainQuery::from_query(query).unwrap_err().to_string();
        assert!(error("").contains("`from` is missing"));
        assert!(error("from=a/b&method=GET").contains("`url` is missing"));
        assert!(error("from=a/b&metod=GET").contains("`metod` is unknown"));
        assert!(error("from=a").contains("NAMESPACE/POD"));
        assert!(error("url=/path").contains("absolute URL"));
        assert!(error("method=G%20T").contains("HTTP method"));
        assert!(error("header=x").contains("NAME:VALUE"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            namespace in "[a-z]{1,8}",
            pod in "[a-z0-9-]{1,8}",
            path in "[a-zA-Z0-9%&=+/]{0,20}",
            value in "[!-~]{0,20}",
        ) {
            let url = format!("http://cart/{path}").parse::<Uri>();
            prop_assume!(url.is_ok());
            let mut headers = HeaderMap::new();
            headers.insert("x-a", value.parse().unwrap());
            let method = Method::POST;
            let query = ExplainQuery { namespace, pod, method, url: url.unwrap(), headers };
            prop_assert_eq!(ExplainQuery::from_query(&query.to_query()), Ok(query));
        }
    }
}
