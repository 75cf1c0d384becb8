//! An API server as a source: every kind that is read, followed from its first list on.
//!
//! Owns the connection and who follows what. What was read last stays in force whatever happens
//! to the server; a kind that is not served, or that the agent may not read, is no error. Writes
//! nothing: `report` does.

mod failure;
mod follow;
mod item;
mod kinds;
mod served;
mod store;
mod trim;

use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use self::follow::{Follower, News};
use self::kinds::{KINDS, may_select_pods};
use self::served::Discovery;
use self::store::Store;
use crate::objects::ObjectSet;

/// Changes are published when none has come for this long.
const QUIET: Duration = Duration::from_millis(5);
/// Changes are published after this long although more are coming: of 200 a second, two or three
/// together. What is dear to compile is gathered for longer where it is compiled.
const GATHER: Duration = Duration::from_millis(15);
/// News that wait to be taken in; followers wait when there are more.
const BACKLOG: usize = 64;
/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Why an API server cannot be a source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a pod's own credentials: set KUBECONFIG, or run in a pod.
    #[error(
        "no way to the API server is known; set KUBECONFIG, or run in a pod with a service account"
    )]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// What the configuration says cannot be used: its certificates or credentials.
    #[error("the configuration of the API server cannot be used")]
    Client(#[source] Box<kube::Error>),
    /// Following a kind panicked: a bug; the last state stays in force.
    #[error("following the API server stopped")]
    Stopped(#[source] JoinError),
}

/// How long each thing may take, and how often it is done. Those that repeat are spread by half
/// of themselves up and down, so that the agents of many nodes do not act at once.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time between looks at what the server serves, which is its sign of life too.
    pub discovery: Duration,
    /// Time in which it must answer a look.
    pub request: Duration,
    /// Time in which it must answer with one page of a list.
    pub list: Duration,
    /// Length of a watch, which the server ends; below the 295 s that the client allows.
    pub watch: Duration,
    /// Time without event or bookmark after which a watch counts as dead. The server sends a
    /// bookmark a minute, at most 75 s apart (`defaultBookmarkFrequency` in its cacher).
    pub silence: Duration,
    /// A watch that the server ends sooner has failed.
    pub shortest_watch: Duration,
    /// For how long a server that answers must not name a kind before its objects are gone.
    pub absent: Duration,
    /// Time until a kind that the agent may not read is tried again.
    pub forbidden: Duration,
    /// Time until the server is asked again, or watched anew, when something went wrong.
    pub doubted: Duration,
    /// Time until kinds are followed again when the server is back.
    pub comeback: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            discovery: Duration::from_secs(5),
            request: Duration::from_secs(5),
            list: Duration::from_secs(60),
            watch: Duration::from_secs(190),
            silence: Duration::from_secs(90),
            shortest_watch: Duration::from_secs(1),
            absent: Duration::from_secs(15),
            forbidden: Duration::from_secs(10),
            doubted: Duration::from_millis(500),
            comeback: Duration::from_secs(2),
        }
    }
}

/// The way to the API server: KUBECONFIG or `~/.kube/config`, else the pod's own credentials.
///
/// # Errors
/// [`Error::Config`] where there is neither.
pub async fn config() -> Result<Config, Error> {
    let config = Config::infer().await;
    config.map_err(|error| Error::Config(Box::new(error)))
}

/// A client of the API server that neither waits for long nor tries again by itself.
///
/// # Errors
/// [`Error::Client`] if certificates or credentials cannot be used.
pub fn client(mut config: Config) -> Result<Client, Error> {
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.default_retry = false;
    Client::try_from(config).map_err(|error| Error::Client(Box::new(error)))
}

/// A followed API server. Nothing is asked of it unless [`Self::run`] runs.
pub struct KubernetesSource {
    client: Client,
    node: Arc<str>,
    timing: Timing,
    sets: watch::Sender<Arc<ObjectSet>>,
}

impl KubernetesSource {
    /// A source that has not been read. Of pods, those of the node of this name are followed, and
    /// those of other nodes only while there are objects that select pods.
    pub fn new(client: Client, node: &str, timing: Timing) -> Self {
        let (sets, _) = watch::channel(Arc::new(Store::new().set()));
        Self {
            client,
            node: node.into(),
            timing,
            sets,
        }
    }

    /// The way to the server, for those that write to it.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What the server holds, now and whenever that changes. Before the first full list of every
    /// kind a set is empty and not synced.
    pub fn sets(&self) -> watch::Receiver<Arc<ObjectSet>> {
        self.sets.subscribe()
    }

    /// Keeps [`Self::sets`] up to date until it is cancelled. Cancel-safe: changes that were not
    /// published are dropped.
    ///
    /// # Errors
    /// Returns only when following a kind panicked.
    pub async fn run(self) -> Error {
        let (told, mut news) = mpsc::channel(BACKLOG);
        let (selected, pods_selected) = watch::channel(false);
        let discovery = Discovery::new(self.client.clone(), self.timing);
        let mut served = discovery.served();
        let mut tasks = JoinSet::new();
        let mut store = Store::new();
        for (place, kind) in KINDS.iter().enumerate() {
            let follower = Follower {
                client: self.client.clone(),
                timing: self.timing,
                node: Arc::clone(&self.node),
                source: store.place().clone(),
                place,
                kind,
                served: discovery.served(),
                pods_selected: pods_selected.clone(),
                doubt: discovery.doubt(),
                news: told.clone(),
            };
            tasks.spawn(follower.run());
        }
        tasks.spawn(discovery.run());
        let mut due = Due::default();
        loop {
            tokio::select! {
                ended = tasks.join_next() => {
                    if let Some(Err(error)) = ended {
                        return Error::Stopped(error);
                    }
                }
                Some((place, news)) = news.recv() => {
                    if take(&mut store, place, news) {
                        due.note();
                    }
                    if may_select_pods(&KINDS[place]) {
                        selected.send_if_modified(|before| {
                            let now = store.selects_pods();
                            std::mem::replace(before, now) != now
                        });
                    }
                }
                Ok(()) = served.changed() => {
                    let lost = served.borrow_and_update().out_of_contact.clone();
                    log_contact(&lost);
                    if store.set_contact(lost) {
                        due.note();
                    }
                }
                () = due.come() => {
                    due = Due::default();
                    self.sets.send_replace(Arc::new(store.set()));
                }
            }
        }
    }
}

/// Returns whether anything came of it.
fn take(store: &mut Store, place: usize, news: News) -> bool {
    match news {
        News::Phase {
            phase,
            version,
            detail,
        } => store.set_phase(place, phase, version, detail),
        News::ListBegins => {
            store.begin_list(place);
            false
        }
        News::Page(items) => {
            for item in items {
                store.put(place, item);
            }
            false
        }
        News::ListEnds => store.end_list(place),
        News::Applied(item) => store.put(place, item),
        News::Deleted(item) => store.remove(place, &item.key),
        News::Gone => store.clear(place),
    }
}

fn log_contact(lost: &Option<served::Lost>) {
    match lost {
        Some(lost) => tracing::warn!("{lost}"),
        None => tracing::debug!("the API server answers"),
    }
}

/// When changes are published.
#[derive(Debug, Default)]
struct Due {
    /// When the first and the last of them came.
    noted: Option<(Instant, Instant)>,
}

impl Due {
    fn note(&mut self) {
        let now = Instant::now();
        self.noted = Some((self.noted.map_or(now, |(first, _)| first), now));
    }

    async fn come(&self) {
        match self.noted {
            Some((first, last)) => sleep_until((first + GATHER).min(last + QUIET)).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_are_gathered_until_it_is_quiet_but_not_for_ever() {
        let mut due = Due::default();
        let start = Instant::now();
        due.note();
        due.come().await;
        assert_eq!(start.elapsed(), QUIET);
        let mut due = Due::default();
        let start = Instant::now();
        loop {
            due.note();
            let pause = tokio::time::sleep(QUIET / 2);
            tokio::select! {
                () = due.come() => break,
                () = pause => {}
            }
        }
        assert_eq!(start.elapsed(), GATHER);
    }
}
