//! Follows one kind: lists it in pages, watches from there, and begins again when that ends.
//!
//! Written on the client's requests: kube-runtime's `watcher` tells neither when a watch stands
//! again nor that a bookmark came, and one object that cannot be read ends its whole list. Must
//! not keep objects: the store does.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::Timing;
use super::failure::Failure;
use super::item::Item;
use super::kinds::{Follow, Kind};
use super::served::{Served, spread};
use crate::model::Place;
use crate::objects::KindPhase;

/// Objects in one answer to a list: of slices with a hundred endpoints each, these are 10 MiB.
const PAGE: u32 = 250;

/// What is told of a kind.
#[derive(Debug)]
pub(super) enum News {
    /// What the kind is at.
    Phase {
        /// What is known of it.
        phase: KindPhase,
        /// The version that is read.
        version: &'static str,
        /// Why.
        detail: String,
    },
    /// A list begins: what it does not name will be gone.
    ListBegins,
    /// Objects of a list.
    Page(Vec<Item>),
    /// The list is complete.
    ListEnds,
    /// An object is new or another than before.
    Applied(Item),
    /// An object is gone.
    Deleted(Item),
    /// The kind is no longer served or wanted: its objects are gone.
    Gone,
}

/// What it takes to follow a kind.
pub(super) struct Follower {
    pub client: Client,
    pub timing: Timing,
    pub node: Arc<str>,
    /// Where its objects are said to be from.
    pub source: Place,
    /// Its place in the table of kinds.
    pub place: usize,
    pub kind: &'static Kind,
    pub served: watch::Receiver<Served>,
    /// Whether objects are there that select pods of the whole cluster.
    pub pods_selected: watch::Receiver<bool>,
    pub doubt: Arc<Notify>,
    pub news: mpsc::Sender<(usize, News)>,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    #[serde(default)]
    items: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

impl Follower {
    /// Follows the kind for ever, whenever it is served. Cancel-safe.
    pub(super) async fn run(self) {
        if self.kind.follow == Follow::WhenServed {
            let mut served = self.served.clone();
            // The sender goes only when everything ends.
            let _known = served.wait_for(Served::is_known).await;
        }
        loop {
            let version = self.wanted();
            let changes = self.other_than(version);
            match version {
                None => {
                    self.tell_absent().await;
                    changes.await;
                }
                Some(version) => tokio::select! {
                    () = self.follow(version) => {}
                    () = changes => {}
                },
            }
        }
    }

    /// The version to follow, if the kind is to be followed.
    fn wanted(&self) -> Option<&'static str> {
        match self.kind.follow {
            Follow::Always | Follow::WhenAllowed => self.kind.versions.first().copied(),
            Follow::WhenServed => self.served.borrow().version(self.kind),
            Follow::WhenPodsAreSelected if *self.pods_selected.borrow() => {
                self.kind.versions.first().copied()
            }
            Follow::WhenPodsAreSelected => None,
        }
    }

    /// Returns when another version than `version` is wanted.
    fn other_than(&self, version: Option<&'static str>) -> impl Future<Output = ()> + use<> {
        let (follow, kind) = (self.kind.follow, self.kind);
        let (mut served, mut selected) = (self.served.clone(), self.pods_selected.clone());
        async move {
            // The senders go only when everything ends.
            let ended = match follow {
                Follow::Always | Follow::WhenAllowed => pending().await,
                Follow::WhenServed => {
                    let other = served.wait_for(|served| served.version(kind) != version);
                    other.await.is_err()
                }
                Follow::WhenPodsAreSelected => {
                    let wanted = version.is_none();
                    selected.wait_for(|now| *now == wanted).await.is_err()
                }
            };
            if ended {
                pending::<()>().await;
            }
        }
    }

    async fn tell_absent(&self) {
        self.tell(News::Gone).await;
        let detail = match self.kind.follow {
            Follow::WhenPodsAreSelected => "no object selects them".to_owned(),
            Follow::Always | Follow::WhenAllowed | Follow::WhenServed => {
                format!("not served in {}", self.kind.versions.join(", "))
            }
        };
        self.phase(KindPhase::Absent, "", detail).await;
    }

    async fn follow(&self, version: &'static str) {
        let request = Request::new(self.kind.path(version));
        let mut backoff = DefaultBackoff::default();
        let mut from = None;
        loop {
            let failure = match from.take() {
                None => match self.list(&request, version).await {
                    Ok(at) => {
                        from = Some(at);
                        continue;
                    }
                    Err(failure) => failure,
                },
                Some(mut at) => {
                    let ended = self.watch(&request, version, &mut at, &mut backoff).await;
                    from = Some(at);
                    match ended {
                        Ok(()) => continue,
                        Err(failure) => failure,
                    }
                }
            };
            if !matches!(
                failure,
                Failure::Broken(_) | Failure::Silent { .. } | Failure::TooShort
            ) {
                from = None;
            }
            self.recover(version, &failure, &mut backoff).await;
        }
    }

    async fn recover(
        &self,
        version: &'static str,
        failure: &Failure,
        backoff: &mut DefaultBackoff,
    ) {
        tracing::debug!(kind = self.kind.title(), %failure, "not followed");
        let (phase, wait) = match failure {
            Failure::Forbidden { .. } => (KindPhase::Forbidden, Some(self.timing.forbidden)),
            // The stall is over as soon as there is a new connection.
            Failure::Silent { .. } => (KindPhase::Lost, Some(self.timing.doubted)),
            Failure::Expired => (KindPhase::Syncing, None),
            Failure::NotFound { .. } | Failure::Broken(_) | Failure::TooShort => {
                (KindPhase::Lost, None)
            }
        };
        self.phase(phase, version, failure.to_string()).await;
        if phase == KindPhase::Lost {
            self.doubt.notify_one();
        }
        let wait = wait.map(spread).or_else(|| backoff.next());
        let wait = wait.unwrap_or(self.timing.forbidden);
        tokio::select! {
            () = sleep(wait) => {}
            () = self.contact_comes_back() => {
                backoff.reset();
                sleep(spread(self.timing.comeback)).await;
            }
        }
    }

    /// Returns when the server answers again after it did not; never if it does all the time.
    async fn contact_comes_back(&self) {
        let mut served = self.served.clone();
        let lost = served.wait_for(|served| served.out_of_contact.is_some());
        let lost = lost.await.is_ok();
        let back = served.wait_for(|served| served.out_of_contact.is_none());
        if !lost || back.await.is_err() {
            pending::<()>().await;
        }
    }

    /// Lists everything. Answers with the version to watch from.
    async fn list(&self, request: &Request, version: &'static str) -> Result<String, Failure> {
        self.phase(KindPhase::Syncing, version, String::new()).await;
        self.tell(News::ListBegins).await;
        let mut params = ListParams {
            field_selector: self.kind.field_selector(&self.node),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let request = request.list(&params).map_err(kube::Error::BuildRequest)?;
            let after = self.timing.list;
            let page = timeout(after, self.client.request::<Page>(request));
            let page = page.await.map_err(|_late| Failure::Silent { after })??;
            let items = page.items.iter().map(|item| self.read(item, version));
            let items = items.collect::<Result<_, _>>()?;
            self.tell(News::Page(items)).await;
            if page.metadata.next.is_empty() {
                self.tell(News::ListEnds).await;
                self.phase(KindPhase::Synced, version, String::new()).await;
                return Ok(page.metadata.resource_version);
            }
            params.continue_token = Some(page.metadata.next);
        }
    }

    /// Follows changes from the version `at`, which goes along, until the server ends the watch in
    /// order.
    async fn watch(
        &self,
        request: &Request,
        version: &'static str,
        at: &mut String,
        backoff: &mut DefaultBackoff,
    ) -> Result<(), Failure> {
        let params = WatchParams {
            field_selector: self.kind.field_selector(&self.node),
            timeout: Some(u32::try_from(spread(self.timing.watch).as_secs()).unwrap_or(60)),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = request
            .watch(&params, at)
            .map_err(kube::Error::BuildRequest)?;
        let began = Instant::now();
        let after = self.timing.silence;
        let events = timeout(after, self.client.request_events::<Box<RawValue>>(request));
        let events = events.await.map_err(|_late| Failure::Silent { after })??;
        self.phase(KindPhase::Synced, version, String::new()).await;
        self.events(events, version, at, backoff).await?;
        if began.elapsed() < self.timing.shortest_watch {
            return Err(Failure::TooShort);
        }
        Ok(())
    }

    async fn events(
        &self,
        events: impl Stream<Item = kube::Result<WatchEvent<Box<RawValue>>>>,
        version: &'static str,
        at: &mut String,
        backoff: &mut DefaultBackoff,
    ) -> Result<(), Failure> {
        let mut events = pin!(events);
        let after = self.timing.silence;
        loop {
            let next = timeout(after, events.next()).await;
            let Some(event) = next.map_err(|_late| Failure::Silent { after })? else {
                return Ok(());
            };
            let (object, wrap): (Box<RawValue>, fn(Item) -> News) = match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, News::Applied),
                WatchEvent::Deleted(object) => (object, News::Deleted),
                WatchEvent::Bookmark(bookmark) => {
                    *at = bookmark.metadata.resource_version;
                    backoff.reset();
                    continue;
                }
                WatchEvent::Error(status) => return Err(Failure::from(*status)),
            };
            backoff.reset();
            let mut item = self.read(&object, version)?;
            if let Some(now) = item.version.take() {
                *at = now;
            }
            self.tell(wrap(item)).await;
        }
    }

    fn read(&self, object: &RawValue, version: &str) -> kube::Result<Item> {
        Item::read(object, self.kind, version, &self.source).map_err(kube::Error::SerdeError)
    }

    async fn phase(&self, phase: KindPhase, version: &'static str, detail: String) {
        self.tell(News::Phase {
            phase,
            version,
            detail,
        })
        .await;
    }

    async fn tell(&self, news: News) {
        // Nobody listens only when everything ends.
        let _ended = self.news.send((self.place, news)).await;
    }
}
