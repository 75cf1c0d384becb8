//! Which agent writes for all: the holder of one Lease.
//!
//! As in client-go's `leaderelection`: times are this machine's alone. A Lease has lapsed when it
//! was not seen to change for as long as its holder asked for, whatever the clocks of others say.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::status::LeaseStatus;

/// Name of the Lease in the agent's namespace.
const LEASE: &str = "proxy-agent";

/// How long each thing takes.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// For how long an agent is elected without renewing.
    pub term: Duration,
    /// Time between looks at the Lease, and between its renewals.
    pub look: Duration,
    /// Time in which the API server must answer.
    pub answer: Duration,
}

impl Default for Terms {
    /// client-go's own: 15 s, of which the holder uses 10 s at most.
    fn default() -> Self {
        Self {
            term: Duration::from_secs(15),
            look: Duration::from_secs(5),
            answer: Duration::from_secs(4),
        }
    }
}

/// What is known of the Lease, for `status`: `None` until it is asked for. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LeaseView(Arc<Mutex<Option<LeaseStatus>>>);

impl LeaseView {
    /// As it was seen last.
    pub fn status(&self) -> Option<LeaseStatus> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes who has the office, and logs when the Lease can be looked at again.
    fn held_by(&self, holder: String) {
        let status = LeaseStatus {
            holder,
            trouble: String::new(),
        };
        let before = self.replace(status);
        if before.is_some_and(|before| !before.trouble.is_empty()) {
            tracing::info!("the Lease can be looked at again");
        }
    }

    /// Notes why the Lease cannot be looked at, and logs that when it is news.
    fn fails(&self, trouble: String) {
        let before = self.status().unwrap_or_default();
        if before.trouble != trouble {
            tracing::warn!(error = trouble, "the Lease cannot be looked at");
        }
        let holder = before.holder;
        self.replace(LeaseStatus { holder, trouble });
    }

    fn replace(&self, status: LeaseStatus) -> Option<LeaseStatus> {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.replace(status)
    }
}

/// An agent that stands for election.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    terms: Terms,
    elected: watch::Sender<bool>,
    view: LeaseView,
}

/// The API server's own words, without the object that they come in. What answers in its place may have
/// none, or a page of them.
fn words(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else {
        return error.to_string();
    };
    // An API server's has metadata, if empty ones.
    if status.metadata.is_some() && !status.message.is_empty() {
        return status.message.clone();
    }
    format!("HTTP {}: {}", status.code, status.reason)
}

/// What was seen of the Lease last, and when it was first seen so.
struct Seen {
    version: Option<String>,
    since: Instant,
}

impl Candidate {
    /// One that has not looked yet, and that tells `view` what it sees.
    pub fn new(client: Client, namespace: &str, name: &str, terms: Terms, view: LeaseView) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            terms,
            elected: watch::Sender::new(false),
            view,
        }
    }

    /// Whether it is elected, now and whenever that changes.
    pub fn elected(&self) -> watch::Receiver<bool> {
        self.elected.subscribe()
    }

    /// Stands for election until `stop`, and then gives the office up.
    pub async fn run(self, stop: &CancellationToken) {
        stop.run_until_cancelled(self.stand()).await;
        if *self.elected.borrow() {
            self.set_elected(false);
            match timeout(self.terms.answer, self.give_up()).await {
                Ok(Ok(())) => tracing::debug!("the Lease is given up"),
                Ok(Err(error)) => tracing::warn!(%error, "the Lease lapses by itself"),
                Err(_late) => tracing::warn!("the Lease lapses by itself: no answer"),
            }
        }
    }

    async fn stand(&self) {
        let mut seen = Seen {
            version: None,
            since: Instant::now(),
        };
        let mut renewed = Instant::now();
        loop {
            let began = Instant::now();
            let look = timeout(self.terms.answer, self.look(&mut seen)).await;
            match look {
                Ok(Ok(true)) => {
                    renewed = began;
                    self.set_elected(true);
                }
                Ok(Ok(false)) => self.set_elected(false),
                Ok(Err(error)) => self.view.fails(words(&error)),
                Err(_late) => self.view.fails("the API server did not answer".to_owned()),
            }
            // Others may take the office at the end of the term: it is left before.
            let last = renewed + self.terms.term * 2 / 3;
            if *self.elected.borrow() && Instant::now() + self.terms.look > last {
                sleep(
                    last.saturating_duration_since(Instant::now())
                        .min(self.terms.look),
                )
                .await;
                if Instant::now() >= last {
                    self.set_elected(false);
                }
            } else {
                sleep(self.terms.look).await;
            }
        }
    }

    fn set_elected(&self, now: bool) {
        self.elected
            .send_if_modified(|elected| std::mem::replace(elected, now) != now);
    }

    /// Looks at the Lease, and takes or renews it where that is right. Returns whether it is ours.
    async fn look(&self, seen: &mut Seen) -> Result<bool, kube::Error> {
        let Some(lease) = self.leases.get_opt(LEASE).await? else {
            return self.write(None).await;
        };
        let version = lease.resource_version();
        if seen.version != version {
            seen.version = version;
            seen.since = Instant::now();
        }
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let term = spec.lease_duration_seconds.unwrap_or_default();
        let term = Duration::from_secs(u64::try_from(term).unwrap_or_default());
        let free = holder.is_empty() || seen.since.elapsed() > term;
        if holder != self.name && !free {
            self.view.held_by(holder);
            return Ok(false);
        }
        self.write(Some(lease)).await
    }

    /// Writes our name into the Lease; somebody else may be faster.
    async fn write(&self, before: Option<Lease>) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let spec = before.as_ref().and_then(|lease| lease.spec.as_ref());
        let ours = spec.and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.name);
        let changes = spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let acquired = spec.and_then(|spec| spec.acquire_time.clone());
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                resource_version: before.as_ref().and_then(ResourceExt::resource_version),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.name.clone()),
                lease_duration_seconds: i32::try_from(self.terms.term.as_secs()).ok(),
                acquire_time: acquired.filter(|_| ours).or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(if ours { changes } else { changes + 1 }),
                ..LeaseSpec::default()
            }),
        };
        let params = PostParams::default();
        let written = match &before {
            None => self.leases.create(&params, &lease).await,
            Some(_) => self.leases.replace(LEASE, &params, &lease).await,
        };
        match written {
            Ok(_) => {
                self.view.held_by(self.name.clone());
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Leaves the Lease without a holder: a successor need not wait for its end.
    async fn give_up(&self) -> Result<(), kube::Error> {
        let mut lease = self.leases.get(LEASE).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() == Some(&self.name) {
            spec.holder_identity = None;
            self.leases
                .replace(LEASE, &PostParams::default(), &lease)
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_cannot_be_done_is_told_in_the_servers_own_words_if_it_has_any() {
        let forbidden = r#"{"kind": "Status", "metadata": {}, "status": "Failure",
            "message": "leases is forbidden", "reason": "Forbidden", "code": 403}"#;
        let forbidden: Status = serde_json::from_str(forbidden).unwrap();
        let page = Status::failure("<html>", "Failed to parse").with_code(502);
        for (status, said) in [
            (forbidden, "leases is forbidden"),
            (page, "HTTP 502: Failed to parse"),
        ] {
            assert_eq!(words(&kube::Error::Api(status.boxed())), said);
        }
    }
}
