//! Addresses of names, as objects: each name that the configuration in force needs is resolved, and
//! again when what was said of it expires.
//!
//! What is known of a name stays in force when it cannot be resolved any more. Must not decide
//! which names are needed nor what an address means: `compile` does both.

mod lookups;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::lookups::Lookups;
use crate::objects::{ObjectSet, Origin};

/// Name of the source, and of every object's place.
pub const SOURCE: &str = "dns";

/// Time until what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Time in which a server must answer; there are two tries.
const PATIENCE: Duration = Duration::from_secs(3);

/// Names that are to be resolved, in order, each once.
pub type Names = Arc<[Arc<str>]>;

/// What a name resolves to.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Answer {
    addresses: Vec<IpAddr>,
    /// How long it holds, by its records.
    ttl: Duration,
}

/// The names of the configuration in force. Nothing is resolved unless [`Self::run`] runs.
pub struct DnsSource {
    server: Option<SocketAddr>,
    names: watch::Receiver<Names>,
    sets: watch::Sender<Arc<ObjectSet>>,
}

impl fmt::Debug for DnsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsSource").finish_non_exhaustive()
    }
}

impl DnsSource {
    /// Asks `server`, else those of `/etc/resolv.conf`, for what `names` says.
    pub fn new(server: Option<SocketAddr>, names: watch::Receiver<Names>) -> Self {
        // Nothing waits for names: what is not resolved yet has no address yet.
        let mut nothing = ObjectSet::unsynced(SOURCE.into(), Origin::Cluster);
        nothing.synced = true;
        Self {
            server,
            names,
            sets: watch::Sender::new(Arc::new(nothing)),
        }
    }

    /// What is known, now and whenever it changes.
    pub fn sets(&self) -> watch::Receiver<Arc<ObjectSet>> {
        self.sets.subscribe()
    }

    /// Keeps [`Self::sets`] up to date until it is cancelled, or nobody names anything any more.
    pub async fn run(mut self) {
        // A node without names to resolve needs no resolver.
        if self
            .names
            .wait_for(|names| !names.is_empty())
            .await
            .is_err()
        {
            return;
        }
        let resolver = loop {
            match resolver(self.server) {
                Ok(resolver) => break resolver,
                Err(error) => {
                    let mut set = ObjectSet::clone(&self.sets.borrow());
                    set.trouble = format!("no name can be resolved: {error}");
                    self.sets.send_replace(Arc::new(set));
                    sleep(RETRY).await;
                }
            }
        };
        let ask = move |name: Arc<str>| {
            let resolver = resolver.clone();
            async move { ask(&resolver, &name).await }
        };
        Lookups::new(self.names, self.sets).follow(ask).await;
    }
}

fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match server {
        None => TokioResolver::builder_tokio()?,
        Some(server) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = connections.map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let server = NameServerConfig::new(server.ip(), true, connections.to_vec());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = PATIENCE;
    options.attempts = 2;
    // Every answer is asked for when the last one has expired, and kept here.
    options.cache_size = 0;
    builder.build()
}

async fn ask(resolver: &TokioResolver, name: &str) -> Result<Answer, String> {
    // Absolute: the search path is the agent's own, not its clients'.
    let found = resolver.lookup_ip(format!("{name}.")).await;
    let found = found.map_err(|error| error.to_string())?;
    let until = Instant::from_std(found.valid_until());
    Ok(Answer {
        addresses: found.iter().map(|ip| ip.to_canonical()).collect(),
        ttl: until.saturating_duration_since(Instant::now()),
    })
}
