//! `trafficPolicy.outlierDetection` and `trafficPolicy.connectionPool`.

use std::time::Duration;

use super::{count, percent, positive, time};
use crate::compile::faults::{Fault, Faults};
use crate::model::{ConnectionLimits, Keepalive, OutlierDetection, RequestLimits};
use crate::objects::istio::{self, HttpSettings, TcpSettings};

/// Compiles `outlierDetection`.
pub(super) fn outlier(of: &istio::OutlierDetection) -> Result<OutlierDetection, Vec<Fault>> {
    let mut faults = Faults::default();
    let older = faults.of(count("consecutiveErrors", of.consecutive_errors));
    let gateway = count("consecutiveGatewayErrors", of.consecutive_gateway_errors);
    let gateway = faults.of(gateway);
    let fives = faults.of(count("consecutive5xxErrors", of.consecutive_5xx_errors));
    let local = faults.of(count(
        "consecutiveLocalOriginFailures",
        of.consecutive_local_origin_failures,
    ));
    let interval = faults.of(positive("interval", of.interval.as_ref()));
    let ejection = positive("baseEjectionTime", of.base_ejection_time.as_ref());
    let ejection = faults.of(ejection);
    let most = faults.of(percent("maxEjectionPercent", of.max_ejection_percent, 10));
    let least = faults.of(percent("minHealthPercent", of.min_health_percent, 0));
    faults.or(OutlierDetection {
        consecutive_5xx: fives.unwrap_or(5),
        consecutive_gateway_errors: gateway.or(older).unwrap_or(0),
        consecutive_local_failures: local.unwrap_or(5),
        split_local_failures: of.split_external_local_origin_errors.unwrap_or(false),
        interval: interval.unwrap_or(Duration::from_secs(10)),
        base_ejection: ejection.unwrap_or(Duration::from_secs(30)),
        max_ejection_percent: most,
        min_health_percent: least,
    })
}

/// Compiles `connectionPool.tcp`.
pub(super) fn connections(of: &TcpSettings) -> Result<ConnectionLimits, Vec<Fault>> {
    let mut faults = Faults::default();
    let keepalive = of.tcp_keepalive.as_ref().map(|of| Keepalive {
        probes: faults.of(count("tcpKeepalive.probes", of.probes)),
        time: faults.of(positive("tcpKeepalive.time", of.time.as_ref())),
        interval: faults.of(positive("tcpKeepalive.interval", of.interval.as_ref())),
    });
    let longest = positive("maxConnectionDuration", of.max_connection_duration.as_ref());
    let limits = ConnectionLimits {
        max_connections: faults.of(count("maxConnections", of.max_connections)),
        connect_timeout: faults.of(positive("connectTimeout", of.connect_timeout.as_ref())),
        max_duration: faults.of(longest),
        idle_timeout: faults.of(time("idleTimeout", of.idle_timeout.as_ref())),
        keepalive,
    };
    faults.or(limits)
}

/// Compiles `connectionPool.http`.
pub(super) fn requests(of: &HttpSettings) -> Result<RequestLimits, Vec<Fault>> {
    let mut faults = Faults::default();
    let upgrade = match of.h2_upgrade_policy.as_deref() {
        None | Some("DEFAULT") => None,
        Some("UPGRADE") => Some(true),
        Some("DO_NOT_UPGRADE") => Some(false),
        Some(other) => {
            let reason = format!("found `{other}`, accepted: DEFAULT, UPGRADE, DO_NOT_UPGRADE");
            faults.0.push(("h2UpgradePolicy".to_owned(), reason));
            None
        }
    };
    let mut count = |field, written| faults.of(count(field, written));
    let limits = RequestLimits {
        max_pending: count("http1MaxPendingRequests", of.http1_max_pending_requests),
        max_requests: count("http2MaxRequests", of.http2_max_requests),
        max_per_connection: count("maxRequestsPerConnection", of.max_requests_per_connection),
        max_retries: count("maxRetries", of.max_retries),
        max_concurrent_streams: count("maxConcurrentStreams", of.max_concurrent_streams),
        idle_timeout: faults.of(time("idleTimeout", of.idle_timeout.as_ref())),
        upgrade_to_http2: upgrade,
        use_client_protocol: of.use_client_protocol.unwrap_or(false),
    };
    faults.or(limits)
}
