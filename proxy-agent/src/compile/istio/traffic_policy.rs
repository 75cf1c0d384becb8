//! `trafficPolicy` of a DestinationRule, section by section, into the policies of a cluster.

mod balancer;
mod limits;

use std::collections::BTreeSet;
use std::time::Duration;

use self::balancer::{consistent_hash, locality, warmup};
use self::limits::{connections, outlier, requests};
use super::policy::duration;
use crate::compile::faults::Fault;
use crate::model::{BalancePolicy, ClusterPolicies, RetryShare};
use crate::objects::istio::{self, ConnectionPool, LoadBalancer, TrafficPolicy};

/// The sections of a policy that count for one port.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sections<'a> {
    load_balancer: Option<&'a LoadBalancer>,
    connection_pool: Option<&'a ConnectionPool>,
    outlier_detection: Option<&'a istio::OutlierDetection>,
    retry_budget: Option<&'a istio::RetryBudget>,
}

impl<'a> Sections<'a> {
    /// Those of a policy: where it has settings for the port, these count alone.
    pub(super) fn of(policy: Option<&'a TrafficPolicy>, port: u16) -> Self {
        let Some(policy) = policy else {
            return Self::default();
        };
        let mut of_port = policy.port_level_settings.iter();
        let is_for = |one: &istio::PortSelector| one.number == port;
        match of_port.find(|one| one.port.as_ref().is_some_and(is_for)) {
            Some(own) => Self {
                load_balancer: own.load_balancer.as_ref(),
                connection_pool: own.connection_pool.as_ref(),
                outlier_detection: own.outlier_detection.as_ref(),
                // Of the whole policy alone: a port has none.
                retry_budget: policy.retry_budget.as_ref(),
            },
            None => Self {
                load_balancer: policy.load_balancer.as_ref(),
                connection_pool: policy.connection_pool.as_ref(),
                outlier_detection: policy.outlier_detection.as_ref(),
                retry_budget: policy.retry_budget.as_ref(),
            },
        }
    }

    /// These, and those of `other` in place of the ones that are missing.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            load_balancer: self.load_balancer.or(other.load_balancer),
            connection_pool: self.connection_pool.or(other.connection_pool),
            outlier_detection: self.outlier_detection.or(other.outlier_detection),
            retry_budget: self.retry_budget.or(other.retry_budget),
        }
    }

    /// How endpoints are chosen, if that is said.
    pub(super) fn balance(&self) -> Option<BalancePolicy> {
        algorithm(self.load_balancer?.simple.as_deref()?).ok()
    }

    /// How many retries there may be, if that is said.
    pub(super) fn retry_share(&self) -> Option<RetryShare> {
        retry_share(self.retry_budget?).ok()
    }

    /// The rest. A section with a fault is left out; [`judge`] names it.
    pub(super) fn policies(&self) -> ClusterPolicies {
        let balancer = self.load_balancer;
        let pool = self.connection_pool;
        let hash = balancer.and_then(|of| of.consistent_hash.as_ref());
        let locality = balancer.and_then(|of| of.locality_lb_setting.as_ref());
        ClusterPolicies {
            outlier: self.outlier_detection.and_then(|of| outlier(of).ok()),
            connections: pool
                .and_then(|of| of.tcp.as_ref())
                .and_then(|of| connections(of).ok()),
            requests: pool
                .and_then(|of| of.http.as_ref())
                .and_then(|of| requests(of).ok()),
            hash: hash.and_then(|of| consistent_hash(of).ok()),
            locality: locality.and_then(|of| balancer::locality(of).ok()),
            warmup: balancer.and_then(|of| warmup(of).ok()?),
        }
    }
}

/// An algorithm by its name.
fn algorithm(name: &str) -> Result<BalancePolicy, String> {
    match name {
        "ROUND_ROBIN" => Ok(BalancePolicy::RoundRobin),
        "LEAST_REQUEST" | "LEAST_CONN" | "UNSPECIFIED" => Ok(BalancePolicy::LeastRequest),
        "RANDOM" => Ok(BalancePolicy::Random),
        // Whose clients chose an address of the Service, and not of an endpoint.
        other => Err(format!(
            "found `{other}`, accepted: ROUND_ROBIN, LEAST_REQUEST, RANDOM"
        )),
    }
}

/// What a policy says: a fault, or that it is not enforced, by field.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// Sections with a fault, which are not in effect.
    pub faults: Vec<Fault>,
    /// Sections that are in the model and not enforced.
    pub not_enforced: Vec<String>,
    /// What has no effect where the rule is.
    pub without_effect: Vec<Fault>,
}

impl Judgement {
    fn section<T>(&mut self, field: &str, parsed: Result<T, Vec<Fault>>) {
        let faults = match parsed {
            Ok(_) => return self.not_enforced.push(field.to_owned()),
            Err(faults) => faults,
        };
        for (inner, reason) in faults {
            let separator = if inner.is_empty() { "" } else { "." };
            self.faults
                .push((format!("{field}{separator}{inner}"), reason));
        }
    }

    fn sections(&mut self, prefix: &str, of: &Sections<'_>, tls: Option<&istio::ClientTls>) {
        if let Some(balancer) = of.load_balancer {
            self.balancer(&format!("{prefix}loadBalancer"), balancer);
        }
        if let Some(tcp) = of.connection_pool.and_then(|pool| pool.tcp.as_ref()) {
            self.section(&format!("{prefix}connectionPool.tcp"), connections(tcp));
        }
        if let Some(http) = of.connection_pool.and_then(|pool| pool.http.as_ref()) {
            self.section(&format!("{prefix}connectionPool.http"), requests(http));
        }
        if let Some(detection) = of.outlier_detection {
            self.section(&format!("{prefix}outlierDetection"), outlier(detection));
        }
        match tls.map(|tls| tls.mode.as_deref().unwrap_or("DISABLE")) {
            None | Some("DISABLE") => {}
            Some(mode @ ("SIMPLE" | "MUTUAL" | "ISTIO_MUTUAL")) => {
                let reason = format!(
                    "{mode} is not supported: what a pod sends unencrypted is sent on unencrypted"
                );
                self.faults.push((format!("{prefix}tls.mode"), reason));
            }
            Some(other) => {
                let reason = format!("found `{other}`, accepted: DISABLE");
                self.faults.push((format!("{prefix}tls.mode"), reason));
            }
        }
    }

    fn balancer(&mut self, field: &str, of: &LoadBalancer) {
        if let Some(Err(reason)) = of.simple.as_deref().map(algorithm) {
            self.faults.push((format!("{field}.simple"), reason));
        }
        if of.simple.is_some() && of.consistent_hash.is_some() {
            let reason = "found simple too, accepted: one of them; simple counts".to_owned();
            self.faults
                .push((format!("{field}.consistentHash"), reason));
        } else if let Some(hash) = &of.consistent_hash {
            self.section(&format!("{field}.consistentHash"), consistent_hash(hash));
        }
        if let Some(setting) = &of.locality_lb_setting {
            self.section(&format!("{field}.localityLbSetting"), locality(setting));
        }
        if of.warmup.is_some() || of.warmup_duration_secs.is_some() {
            self.section(field, warmup(of));
            if self.not_enforced.last().is_some_and(|last| last == field) {
                self.not_enforced.pop();
                let name = if of.warmup.is_some() {
                    "warmup"
                } else {
                    "warmupDurationSecs"
                };
                self.not_enforced.push(format!("{field}.{name}"));
            }
        }
    }
}

/// Judges every section of a policy for a Service with these ports; fields are below the policy.
pub(super) fn judge(policy: &TrafficPolicy, numbers: &BTreeSet<u16>) -> Judgement {
    let mut judgement = Judgement::default();
    let whole = Sections {
        load_balancer: policy.load_balancer.as_ref(),
        connection_pool: policy.connection_pool.as_ref(),
        outlier_detection: policy.outlier_detection.as_ref(),
        retry_budget: None,
    };
    judgement.sections("", &whole, policy.tls.as_ref());
    for (index, of) in policy.port_level_settings.iter().enumerate() {
        let prefix = format!("portLevelSettings[{index}].");
        match &of.port {
            None => {
                let reason = "is missing: the port that these are for".to_owned();
                judgement.faults.push((format!("{prefix}port"), reason));
            }
            Some(port) if !numbers.is_empty() && !numbers.contains(&port.number) => {
                let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
                let reason = format!(
                    "found {}, which the Service does not have as a TCP port; it has: {}",
                    port.number,
                    numbers.join(", ")
                );
                let field = format!("{prefix}port.number");
                judgement.without_effect.push((field, reason));
            }
            Some(_) => {}
        }
        let sections = Sections {
            load_balancer: of.load_balancer.as_ref(),
            connection_pool: of.connection_pool.as_ref(),
            outlier_detection: of.outlier_detection.as_ref(),
            retry_budget: None,
        };
        judgement.sections(&prefix, &sections, of.tls.as_ref());
    }
    for (field, there) in [
        ("tunnel", policy.tunnel.is_some()),
        ("proxyProtocol", policy.proxy_protocol.is_some()),
    ] {
        if there {
            let reason = "is not supported: connections go without it".to_owned();
            judgement.faults.push((field.to_owned(), reason));
        }
    }
    if let Some(Err((inner, reason))) = policy.retry_budget.as_ref().map(retry_share) {
        let field = format!("retryBudget.{inner}");
        judgement.faults.push((field, reason));
    }
    judgement
}

/// `retryBudget`; what is missing of it is Envoy's default.
fn retry_share(of: &istio::RetryBudget) -> Result<RetryShare, Fault> {
    let default = RetryShare::default();
    let share = match of.percent {
        None => default.per_ten_thousand,
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 10,000"
        )]
        Some(percent) if (0.0..=100.0).contains(&percent) => (percent * 100.0).round() as u32,
        Some(percent) => {
            let reason = format!("found {percent}, accepted: 0 to 100");
            return Err(("percent".to_owned(), reason));
        }
    };
    Ok(RetryShare {
        per_ten_thousand: share,
        min_concurrent: of.min_retry_concurrency.unwrap_or(default.min_concurrent),
    })
}

fn count(field: &str, written: Option<i64>) -> Result<Option<u32>, Fault> {
    let parse = |written: i64| {
        let count = u32::try_from(written)
            .ok()
            .filter(|n| i32::try_from(*n).is_ok());
        count.ok_or_else(|| {
            let reason = format!("found {written}, accepted: 0 to {}", i32::MAX);
            (field.to_owned(), reason)
        })
    };
    written.map(parse).transpose()
}

fn percent(field: &str, written: Option<i64>, default: u8) -> Result<u8, Fault> {
    let Some(written) = written else {
        return Ok(default);
    };
    let percent = u8::try_from(written).ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| {
        let reason = format!("found {written}, accepted: 0 to 100");
        (field.to_owned(), reason)
    })
}

fn time(field: &str, written: Option<&String>) -> Result<Option<Duration>, Fault> {
    let parsed = written.map(|text| duration(text)).transpose();
    parsed.map_err(|reason| (field.to_owned(), reason))
}

/// As [`time`], of what is no use when it is shorter than a millisecond.
fn positive(field: &str, written: Option<&String>) -> Result<Option<Duration>, Fault> {
    let parsed = time(field, written)?;
    match parsed {
        Some(time) if time < Duration::from_millis(1) => {
            let reason = format!("found {time:?}, accepted: 1ms and more");
            Err((field.to_owned(), reason))
        }
        parsed => Ok(parsed),
    }
}
