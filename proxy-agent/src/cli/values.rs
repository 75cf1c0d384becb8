//! Values of flags that are more than a word, and how they are read.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::{HeaderName, HeaderValue};

/// Why a flag's value is not accepted: what was found and what is accepted.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// A source of a later version.
    #[error(
        "source `{given}` is not in this version; give kubernetes, or file:DIR, a directory of manifests"
    )]
    LaterSource {
        /// The value.
        given: String,
    },
    /// No source at all.
    #[error("`{given}` is no source; give kubernetes, or file:DIR, a directory of manifests")]
    Source {
        /// The value.
        given: String,
    },
    /// No pod.
    #[error("`{given}` names no pod; give NAMESPACE/POD")]
    Pod {
        /// The value.
        given: String,
    },
    /// No header.
    #[error("`{given}` is no header; give 'name: value'")]
    Header {
        /// The value.
        given: String,
    },
    /// No URL of a request that the agent would route.
    #[error("`{given}` is no http:// or https:// URL with a host, e.g. http://cart.shop/items")]
    Url {
        /// The value.
        given: String,
    },
}

/// One `--source`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceArg {
    /// The API server of the cluster.
    Kubernetes,
    /// A directory of manifests.
    File(PathBuf),
}

impl FromStr for SourceArg {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let given = || text.to_owned();
        if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
            return Ok(Self::File(path.into()));
        }
        if text == "kubernetes" {
            return Ok(Self::Kubernetes);
        }
        if text.starts_with("xds:") {
            return Err(ValueError::LaterSource { given: given() });
        }
        Err(ValueError::Source { given: given() })
    }
}

impl fmt::Display for SourceArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubernetes => f.write_str("kubernetes"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// `NAMESPACE/POD`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl FromStr for PodName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(ValueError::Pod {
                given: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// `name: value`, as in curl's `-H`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// Name, lower case.
    pub name: HeaderName,
    /// Value, without spaces around it.
    pub value: HeaderValue,
}

impl FromStr for Header {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parsed = text.split_once(':').and_then(|(name, value)| {
            Some(Self {
                name: name.trim().parse().ok()?,
                value: value.trim().parse().ok()?,
            })
        });
        parsed.ok_or_else(|| ValueError::Header {
            given: text.to_owned(),
        })
    }
}

/// Reads a URL that a captured pod could ask for.
pub(super) fn parse_url(text: &str) -> Result<http::Uri, ValueError> {
    let url = text.parse::<http::Uri>().ok();
    let known = |url: &http::Uri| matches!(url.scheme_str(), Some("http" | "https"));
    url.filter(|url| known(url) && url.authority().is_some())
        .ok_or_else(|| ValueError::Url {
            given: text.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_source_has_a_path() {
        let source: SourceArg = "file:/a b".parse().unwrap();
        assert_eq!(source, SourceArg::File("/a b".into()));
        assert_eq!(source.to_string(), "file:/a b");
        for bad in ["file:", "/etc", "", "consul:x"] {
            let error = bad.parse::<SourceArg>().unwrap_err().to_string();
            assert!(error.contains("is no source"), "{error}");
        }
    }

    #[test]
    fn the_cluster_is_a_source_without_a_place() {
        let source: SourceArg = "kubernetes".parse().unwrap();
        assert_eq!(source, SourceArg::Kubernetes);
        assert_eq!(source.to_string(), "kubernetes");
        assert!("kubernetes:x".parse::<SourceArg>().is_err());
    }

    #[test]
    fn a_pod_has_a_namespace() {
        assert_eq!("a/b".parse::<PodName>().unwrap().to_string(), "a/b");
        for bad in ["a", "/b", "a/", "a/b/c", ""] {
            assert!(bad.parse::<PodName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_header_may_hold_colons_and_be_empty() {
        let header: Header = "X-At: 10:30 ".parse().unwrap();
        assert_eq!(
            (header.name.as_str(), header.value.as_bytes()),
            ("x-at", &b"10:30"[..])
        );
        assert!("x:".parse::<Header>().unwrap().value.is_empty());
        for bad in ["x", ": y", "a b: c"] {
            assert!(bad.parse::<Header>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_is_absolute_and_plain_http() {
        assert!(parse_url("http://cart.shop:8080/a?b=c").is_ok());
        for bad in ["/path", "cart", "ftp://cart/", "http://"] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
