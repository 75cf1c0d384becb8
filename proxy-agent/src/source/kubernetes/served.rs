//! What the API server serves, asked again and again: kinds come and go, and so does the server.
//!
//! One conditional request of the whole discovery document is both the question which kinds are
//! served in which versions and the sign of life. It decides nothing about objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::Timing;
use super::kinds::Kind;

/// Aggregated discovery, Kubernetes 1.27 and newer (KEP-3352).
const DOCUMENT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                        application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// The API server does not answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Lost {
    /// When it last answered, or when it was first asked.
    pub since: SystemTime,
    /// What came instead.
    pub why: Arc<str>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = humantime::format_rfc3339_seconds(self.since);
        write!(
            f,
            "no contact with the API server since {since}: {}",
            self.why
        )
    }
}

/// Whether the API server answers, and what it serves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Served {
    /// Set while it does not answer.
    pub out_of_contact: Option<Lost>,
    /// `None` until it has answered once.
    versions: Option<Arc<Versions>>,
}

/// Group, version and plural of a resource that can be listed and watched.
type Version = (String, String, String);
type Versions = BTreeSet<Version>;

impl Served {
    /// Whether the server has answered at all.
    pub(super) fn is_known(&self) -> bool {
        self.versions.is_some()
    }

    /// The newest version of `kind` that is read and served.
    pub(super) fn version(&self, kind: &Kind) -> Option<&'static str> {
        let served = self.versions.as_ref()?;
        let is_served = |version: &&&str| {
            let (group, plural) = (kind.group.to_owned(), kind.plural.to_owned());
            served.contains(&(group, (**version).to_owned(), plural))
        };
        kind.versions.iter().find(is_served).copied()
    }
}

/// Asks the server until it is dropped.
pub(super) struct Discovery {
    client: Client,
    timing: Timing,
    /// Wakes it when others have reason to doubt the server.
    doubt: Arc<Notify>,
    served: watch::Sender<Served>,
    etag: Option<HeaderValue>,
    /// What the server no longer names, and since when: it is believed after [`Timing::absent`].
    missing: BTreeMap<Version, Instant>,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("it did not answer in {0:?}")]
    Late(std::time::Duration),
    #[error("{}", super::failure::root(.0))]
    Request(kube::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its list of kinds cannot be read; Kubernetes 1.27 or newer is needed")]
    Document(#[from] serde_json::Error),
}

impl Discovery {
    /// Nothing is known before [`Self::run`].
    pub(super) fn new(client: Client, timing: Timing) -> Self {
        Self {
            client,
            timing,
            doubt: Arc::default(),
            served: watch::Sender::default(),
            etag: None,
            missing: BTreeMap::new(),
        }
    }

    /// What is served, now and whenever that changes.
    pub(super) fn served(&self) -> watch::Receiver<Served> {
        self.served.subscribe()
    }

    /// To be notified when the server did not do as expected: it is asked at once.
    pub(super) fn doubt(&self) -> Arc<Notify> {
        Arc::clone(&self.doubt)
    }

    /// Asks for ever. Cancel-safe.
    pub(super) async fn run(mut self) {
        let mut backoff = DefaultBackoff::default();
        let mut last_answer = SystemTime::now();
        loop {
            match self.ask().await {
                Ok(()) => {
                    backoff.reset();
                    last_answer = SystemTime::now();
                    self.served
                        .send_if_modified(|served| served.out_of_contact.take().is_some());
                    tokio::select! {
                        () = sleep(spread(self.timing.discovery)) => {}
                        // Not faster than the back-off, however many doubt at once.
                        () = self.doubt.notified() => sleep(spread(self.timing.doubted)).await,
                    }
                }
                Err(error) => {
                    // Only a server that answers all the time is believed.
                    self.missing.clear();
                    self.lose(last_answer, &error);
                    let wait = backoff.next().unwrap_or(self.timing.discovery);
                    sleep(wait.min(self.timing.discovery)).await;
                }
            }
        }
    }

    fn lose(&self, since: SystemTime, error: &Unanswered) {
        self.served.send_if_modified(|served| {
            let news = served.out_of_contact.is_none();
            if news {
                let why = error.to_string().into();
                served.out_of_contact = Some(Lost { since, why });
            }
            news
        });
    }

    async fn ask(&mut self) -> Result<(), Unanswered> {
        let limit = self.timing.request;
        let answer = timeout(limit, self.request()).await;
        let Some((etag, seen)) = answer.map_err(|_elapsed| Unanswered::Late(limit))?? else {
            return Ok(());
        };
        let versions = Arc::new(self.believe(seen, Instant::now()));
        // Without the tag the same document is read again.
        self.etag = etag.filter(|_| self.missing.is_empty());
        self.served.send_if_modified(|served| {
            let news = served.versions.as_ref() != Some(&versions);
            served.versions = Some(versions);
            news
        });
        Ok(())
    }

    /// What is `seen` now, and what was there before and has not been missing for long: a server
    /// that starts, one of several perhaps, lists its own groups before those of definitions.
    fn believe(&mut self, seen: Versions, now: Instant) -> Versions {
        let before = self.served.borrow().versions.clone().unwrap_or_default();
        let missing = before.difference(&seen).map(|version| {
            let since = self.missing.get(version).copied().unwrap_or(now);
            (version.clone(), since)
        });
        let recent = |(_, since): &(Version, Instant)| now - *since < self.timing.absent;
        let missing = missing.filter(recent).collect();
        self.missing = missing;
        let mut versions = seen;
        versions.extend(self.missing.keys().cloned());
        versions
    }

    /// `None` if nothing has changed since the last answer that was believed.
    async fn request(&self) -> Result<Option<(Option<HeaderValue>, Versions)>, Unanswered> {
        let mut request = http::Request::get("/apis").header(ACCEPT, DOCUMENT);
        if let Some(etag) = &self.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let request = request
            .body(Body::empty())
            .map_err(|error| Unanswered::Request(kube::Error::HttpError(error)))?;
        let response = self
            .client
            .send(request)
            .await
            .map_err(Unanswered::Request)?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        if response.status() != StatusCode::OK {
            return Err(Unanswered::Status(response.status()));
        }
        let etag = response.headers().get(ETAG).cloned();
        let body = response.into_body().collect().await;
        let body = body.map_err(Unanswered::Request)?.to_bytes();
        Ok(Some((etag, versions(&body)?)))
    }
}

/// Half to one and a half times as long: many agents do not act at once.
pub(super) fn spread(duration: std::time::Duration) -> std::time::Duration {
    use std::hash::{BuildHasher, RandomState};
    // Every state has keys of its own, which the standard library draws at random.
    let random = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(u32::MAX);
    duration / 2 + duration.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn versions(document: &[u8]) -> Result<Versions, serde_json::Error> {
    let list: Groups = serde_json::from_slice(document)?;
    let mut all = Versions::new();
    for group in list.items {
        for version in group.versions {
            for resource in version.resources {
                let key = (
                    group.metadata.name.clone(),
                    version.version.clone(),
                    resource.resource,
                );
                all.insert(key);
            }
        }
    }
    Ok(all)
}

#[derive(Deserialize)]
struct Groups {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    metadata: GroupName,
    #[serde(default)]
    versions: Vec<GroupVersion>,
}

#[derive(Deserialize)]
struct GroupName {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    resource: String,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::source::kubernetes::kinds::KINDS;

    fn served(document: &str) -> Served {
        Served {
            out_of_contact: None,
            versions: Some(Arc::new(versions(document.as_bytes()).unwrap())),
        }
    }

    fn kind(name: &str) -> &'static Kind {
        KINDS.iter().find(|kind| kind.kind == name).unwrap()
    }

    #[test]
    fn the_newest_version_that_is_read_and_served_is_taken() {
        let document = |versions: &[&str]| {
            let versions: Vec<_> = versions
                .iter()
                .map(|version| {
                    let resources = serde_json::json!([{"resource": "virtualservices"}]);
                    serde_json::json!({"version": version, "resources": resources})
                })
                .collect();
            let group = serde_json::json!({"name": "networking.istio.io"});
            let items = serde_json::json!([{"metadata": group, "versions": versions}]);
            serde_json::json!({"kind": "APIGroupDiscoveryList", "items": items}).to_string()
        };
        let of = |versions| served(&document(versions)).version(kind("VirtualService"));
        assert_eq!(of(&["v1alpha3", "v1", "v1beta1"]), Some("v1"));
        assert_eq!(of(&["v1alpha3"]), Some("v1alpha3"));
        assert_eq!(of(&["v2"]), None, "a version that is not read");
        assert_eq!(of(&[]), None);
        let other = served(&document(&["v1"])).version(kind("HTTPRoute"));
        assert_eq!(other, None, "a kind of another group");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_gone_after_a_time_and_not_after_some_looks() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let timing = Timing::default();
        let mut discovery = Discovery::new(Client::try_from(config).unwrap(), timing);
        let version = |name: &str| ("g".to_owned(), "v1".to_owned(), name.to_owned());
        let all: Versions = [version("a"), version("b")].into();
        let without: Versions = [version("a"), version("new")].into();
        let look = |discovery: &mut Discovery, seen: &Versions| {
            let versions = discovery.believe(seen.clone(), Instant::now());
            discovery.served.send_modify(|served| {
                served.versions = Some(Arc::new(versions));
            });
            let served = discovery.served.borrow().versions.clone().unwrap();
            (
                served.contains(&version("b")),
                served.contains(&version("new")),
            )
        };
        look(&mut discovery, &all);
        let started = Instant::now();
        // Followers that fail have it asked at once, and again.
        while started.elapsed() < timing.absent {
            assert_eq!(look(&mut discovery, &without), (true, true));
            sleep(timing.doubted / 2).await;
        }
        assert_eq!(look(&mut discovery, &without), (false, true));
        assert!(discovery.missing.is_empty());

        look(&mut discovery, &all);
        look(&mut discovery, &without);
        sleep(timing.absent * 2 / 3).await;
        look(&mut discovery, &all);
        assert!(look(&mut discovery, &without).0);
        sleep(timing.absent * 2 / 3).await;
        assert!(look(&mut discovery, &without).0, "it was there in between");
    }

    #[test]
    fn a_document_of_an_older_server_is_no_list_of_kinds() {
        let old = r#"{"kind": "APIGroupList", "groups": [{"name": "apps"}]}"#;
        assert!(versions(old.as_bytes()).is_err());
        assert!(versions(br#"{"items": []}"#).is_ok());
    }

    #[test]
    fn waits_are_spread_around_their_mean() {
        let mean = Duration::from_secs(10);
        let all: Vec<_> = (0..200).map(|_| spread(mean)).collect();
        assert!(
            all.iter()
                .all(|wait| *wait >= mean / 2 && *wait <= mean * 3 / 2)
        );
        assert!(all.iter().any(|wait| *wait < mean) && all.iter().any(|wait| *wait > mean));
    }
}
