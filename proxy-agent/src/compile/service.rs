//! Kubernetes Services: addresses, what a port speaks, what always passes.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort as KubePort, ServiceSpec};

use super::address::{Allocator, ServiceCidr};
use super::by_key::{ByKey, Key};
use super::index::{At, Index};
use super::problems::Problems;
use crate::model::{BalancePolicy, PassReason, UpstreamProtocol};
use crate::objects::Origin;

/// On Services: `least-request` or `round-robin`.
const BALANCE: &str = "proxy-agent.io/balance";
/// Services with this label are another proxy's.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

/// What a Service says that its port speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Declared {
    /// HTTP, and what endpoints are spoken to.
    Http(UpstreamProtocol),
    /// Something else by name: no route turns it into HTTP unless it names the port.
    Opaque,
    /// Nothing that is known.
    Nothing,
}

/// One port of one Service, before routes are attached.
#[derive(Debug)]
pub(super) struct Port<'a> {
    /// The Service.
    pub at: &'a At<'a, Service>,
    /// The port in it.
    pub kube: &'a KubePort,
    /// Its number, host byte order.
    pub number: u16,
    /// Addresses that are proxied unless `pass` says otherwise.
    pub addresses: Vec<SocketAddr>,
    /// Load balancer addresses with `ipMode: Proxy`, which pass.
    pub passed_addresses: Vec<SocketAddr>,
    /// Why the whole port passes.
    pub pass: Option<PassReason>,
    /// What it speaks.
    pub declared: Declared,
    /// How its endpoints are chosen from.
    pub balance: BalancePolicy,
    /// Name of its cluster.
    pub cluster: Arc<str>,
}

impl Port<'_> {
    /// Whether it is a TCP port.
    pub(super) fn is_tcp(&self) -> bool {
        protocol(self.kube) == "TCP"
    }
}

/// Ports by Service, in the order of their numbers.
pub(super) type Ports<'a> = ByKey<'a, Vec<Port<'a>>>;

/// Reads every Service.
pub(super) fn ports<'a>(
    index: &'a Index<'a>,
    cidr: ServiceCidr,
    allocator: &mut Allocator,
    problems: &mut Problems,
) -> Ports<'a> {
    let mut ips: BTreeMap<Key<'a>, Addresses> = BTreeMap::new();
    let mut lacking = Vec::new();
    for (key, at) in index.services.iter() {
        let found = Addresses::read(at, problems);
        if found.own.is_empty() && at.origin == Origin::Files && needs_cluster_ip(at.object) {
            lacking.push(format!("{}/{}", key.0, key.1));
        }
        ips.insert(key, found);
    }
    let taken: HashSet<IpAddr> = ips
        .values()
        .flat_map(|found| found.own.iter().chain(&found.passed))
        .copied()
        .collect();
    let given = allocator.allocate(cidr, &lacking, &taken);
    let mut all = Ports::default();
    for (key, at) in index.services.iter() {
        let mut found = ips.remove(&key).unwrap_or_default();
        if let Some(address) = given.get(&format!("{}/{}", key.0, key.1)) {
            found.own.insert(0, IpAddr::V4(*address));
        }
        warn_of_what_is_not_enforced(at, problems);
        all.insert(key, service_ports(at, &found, problems));
    }
    name_the_unlucky(index, &lacking, given.len(), cidr, problems);
    all
}

fn name_the_unlucky(
    index: &Index<'_>,
    lacking: &[String],
    given: usize,
    cidr: ServiceCidr,
    problems: &mut Problems,
) {
    for name in lacking.iter().skip(given) {
        let key = name.split_once('/').unwrap_or_default();
        if let Some(at) = index.services.get(key) {
            let reason = format!("no clusterIP, and no address is left in {cidr} (--service-cidr)");
            problems.error(at.located, "spec.clusterIP", reason);
        }
    }
}

/// Addresses of one Service.
#[derive(Debug, Default)]
struct Addresses {
    /// Those that are proxied.
    own: Vec<IpAddr>,
    /// Those that pass.
    passed: Vec<IpAddr>,
}

impl Addresses {
    fn read(at: &At<'_, Service>, problems: &mut Problems) -> Self {
        let mut found = Self::default();
        let Some(spec) = &at.object.spec else {
            return found;
        };
        let mut parse = |field: String, text: &str| match text.parse::<IpAddr>() {
            Ok(ip) => Some(ip.to_canonical()),
            Err(_) => {
                let reason = format!("found `{text}`, expected an IP address");
                problems.error(at.located, field, reason);
                None
            }
        };
        let many = spec.cluster_ips.as_deref().unwrap_or_default();
        let one = spec.cluster_ip.as_slice();
        let (field, cluster_ips) = if many.is_empty() {
            ("spec.clusterIP", one)
        } else {
            ("spec.clusterIPs", many)
        };
        for ip in cluster_ips
            .iter()
            .filter(|ip| !ip.is_empty() && *ip != "None")
        {
            found.own.extend(parse(field.to_owned(), ip));
        }
        for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
            found
                .own
                .extend(parse(format!("spec.externalIPs[{index}]"), ip));
        }
        let balancer = at
            .object
            .status
            .as_ref()
            .and_then(|status| status.load_balancer.as_ref());
        let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
        for (index, ingress) in ingress.into_iter().flatten().enumerate() {
            let field = format!("status.loadBalancer.ingress[{index}].ip");
            let ip = ingress.ip.as_ref().and_then(|ip| parse(field, ip));
            match ingress.ip_mode.as_deref() {
                Some("Proxy") => found.passed.extend(ip),
                _ => found.own.extend(ip),
            }
        }
        found
    }
}

fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
        || spec.cluster_ips.iter().flatten().any(|ip| ip == "None")
}

fn needs_cluster_ip(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        let own = spec
            .cluster_ip
            .iter()
            .chain(spec.cluster_ips.iter().flatten());
        kind(spec) != "ExternalName" && own.filter(|ip| !ip.is_empty()).count() == 0
    })
}

fn service_ports<'a>(
    at: &'a At<'a, Service>,
    found: &Addresses,
    problems: &mut Problems,
) -> Vec<Port<'a>> {
    let Some(spec) = &at.object.spec else {
        return Vec::new();
    };
    let balance = balance(at, problems);
    let mut ports: Vec<Port<'a>> = Vec::new();
    for (index, kube) in spec.ports.iter().flatten().enumerate() {
        let field = format!("spec.ports[{index}].port");
        let Some(number) = u16::try_from(kube.port).ok().filter(|number| *number > 0) else {
            let reason = format!("found {}, accepted: 1 to 65535", kube.port);
            problems.error(at.located, field, reason);
            continue;
        };
        let same = |port: &Port<'_>| port.number == number && protocol(port.kube) == protocol(kube);
        if ports.iter().any(same) {
            problems.error(at.located, field, format!("port {number} stands twice"));
            continue;
        }
        let socket = |ip: &IpAddr| SocketAddr::new(*ip, number);
        ports.push(Port {
            at,
            kube,
            number,
            addresses: found.own.iter().map(socket).collect(),
            passed_addresses: found.passed.iter().map(socket).collect(),
            pass: pass(at, spec, kube),
            declared: declared(kube),
            balance,
            cluster: cluster_name(at.key(), number, protocol(kube)),
        });
    }
    ports.sort_by_key(|port| (port.number, protocol(port.kube)));
    ports
}

fn protocol(port: &KubePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn cluster_name((namespace, service): Key<'_>, number: u16, protocol: &str) -> Arc<str> {
    let name = format!("{namespace}/{service}:{number}");
    if protocol == "TCP" {
        return name.into();
    }
    format!("{name}/{}", protocol.to_ascii_lowercase()).into()
}

fn pass(at: &At<'_, Service>, spec: &ServiceSpec, port: &KubePort) -> Option<PassReason> {
    let labels = at.object.metadata.labels.as_ref();
    if kind(spec) == "ExternalName" {
        Some(PassReason::ExternalName)
    } else if labels.is_some_and(|labels| labels.contains_key(OTHER_PROXY)) {
        Some(PassReason::OtherProxy)
    } else if at.key() == ("default", "kubernetes") {
        Some(PassReason::ApiServer)
    } else if port.port == 53 {
        Some(PassReason::Dns)
    } else if protocol(port) != "TCP" {
        Some(PassReason::NotTcp)
    } else if is_headless(spec) {
        Some(PassReason::Headless)
    } else {
        None
    }
}

/// appProtocol, else the port's name up to its first `-`.
fn declared(port: &KubePort) -> Declared {
    use UpstreamProtocol::{AsReceived, Http2};
    if let Some(protocol) = port.app_protocol.as_deref().filter(|text| !text.is_empty()) {
        return match protocol.to_ascii_lowercase().as_str() {
            "http" | "kubernetes.io/ws" | "grpc-web" => Declared::Http(AsReceived),
            "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => Declared::Http(Http2),
            _ => Declared::Opaque,
        };
    }
    let name = port.name.as_deref().unwrap_or_default();
    if name == "grpc-web" || name.starts_with("grpc-web-") {
        return Declared::Http(AsReceived);
    }
    match name.split('-').next().unwrap_or_default() {
        "http" => Declared::Http(AsReceived),
        "http2" | "h2c" | "grpc" => Declared::Http(Http2),
        "https" | "tls" | "tcp" | "mongo" | "mysql" | "redis" | "udp" | "sctp" => Declared::Opaque,
        _ => Declared::Nothing,
    }
}

fn balance(at: &At<'_, Service>, problems: &mut Problems) -> BalancePolicy {
    let annotations = at.object.metadata.annotations.as_ref();
    match annotations
        .and_then(|annotations| annotations.get(BALANCE))
        .map(String::as_str)
    {
        None | Some("least-request") => BalancePolicy::LeastRequest,
        Some("round-robin") => BalancePolicy::RoundRobin,
        Some(other) => {
            let reason = format!("found `{other}`, accepted: least-request, round-robin");
            problems.error(
                at.located,
                format!("metadata.annotations[{BALANCE}]"),
                reason,
            );
            BalancePolicy::LeastRequest
        }
    }
}

/// What kube-proxy would do for captured connections and the agent does not do yet.
fn warn_of_what_is_not_enforced(at: &At<'_, Service>, problems: &mut Problems) {
    let Some(spec) = &at.object.spec else {
        return;
    };
    let affinity = spec
        .session_affinity
        .as_deref()
        .filter(|value| *value != "None");
    let policy = spec
        .internal_traffic_policy
        .as_deref()
        .filter(|value| *value != "Cluster");
    let distribution = spec.traffic_distribution.as_deref();
    for (field, value) in [
        ("spec.sessionAffinity", affinity),
        ("spec.internalTrafficPolicy", policy),
        ("spec.trafficDistribution", distribution),
    ] {
        if let Some(value) = value {
            let reason = format!("`{value}` is not enforced yet: every ready endpoint is used");
            problems.warning(at.located, field, reason);
        }
    }
}
