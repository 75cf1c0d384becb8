//! Kubernetes Services: addresses, what a port speaks, what always passes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort as KubePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::annotations::Annotated;
use super::by_key::{ByKey, Key, Name};
use super::cluster_ids::ClusterIds;
use super::direct::{self, Mode};
use super::index::At;
use super::problems::Problems;
use crate::model::{
    BalancePolicy, ClientPolicy, ClusterId, ClusterPolicies, DirectPolicy, FailureAccrual,
    PassReason, RetryShare, UpstreamProtocol,
};
use crate::objects::Origin;

/// On Services: how endpoints are chosen.
const BALANCE: &str = "proxy-agent.io/balance";
/// Services with this label are another proxy's.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

/// What a Service says that its port speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Declared {
    /// HTTP, and what endpoints are spoken to.
    Http(UpstreamProtocol),
    /// TLS by name: as `Opaque`, and routes by server name are for it.
    Tls,
    /// Something else by name: no route turns it into HTTP unless it names the port.
    Opaque,
    /// Nothing that is known.
    Nothing,
}

/// The port of a pod that a Service port leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    Number(u16),
    /// A container's port of this name.
    Named(Arc<str>),
    /// A number that no port has.
    Nothing,
}

/// One port of one Service, before routes are attached.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Port {
    /// The Service.
    pub service: Name,
    /// Its number, host byte order.
    pub number: u16,
    /// Its name, empty if it has none.
    pub name: Arc<str>,
    /// Whether it is a TCP port.
    pub tcp: bool,
    /// Where pods listen, for endpoints that are found by selector.
    pub target: Target,
    /// Addresses that are proxied unless `pass` says otherwise.
    pub addresses: Vec<SocketAddr>,
    /// Load balancer addresses with `ipMode: Proxy`, which pass.
    pub passed_addresses: Vec<SocketAddr>,
    /// Namespaces whose clients it is for; `None` for all.
    pub clients: Option<Arc<[Arc<str>]>>,
    /// Why the whole port passes.
    pub pass: Option<PassReason>,
    /// What it speaks.
    pub declared: Declared,
    /// How its endpoints are chosen from.
    pub balance: BalancePolicy,
    /// How many retries there may be at once.
    pub retry_share: RetryShare,
    /// Namespaces for whose clients these two are others.
    pub own_policies: Vec<(Arc<str>, ClientPolicy)>,
    /// What else is asked for.
    pub policies: Option<Arc<ClusterPolicies>>,
    /// Who carries its connections, if the Service says.
    pub mode: Option<Mode>,
    /// How direct connections are treated.
    pub direct: DirectPolicy,
    /// Name of its cluster.
    pub cluster: Arc<str>,
    /// Id of its cluster.
    pub id: ClusterId,
    /// Parts of its endpoints.
    pub subsets: Vec<PortSubset>,
    /// What is filled in for rules that do not say it themselves.
    pub defaults: Option<Arc<Annotated>>,
    /// When an endpoint that fails is to be passed over.
    pub failure_accrual: Option<FailureAccrual>,
}

/// A part of a port's endpoints: those whose pods carry the labels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PortSubset {
    /// What routes call it.
    pub name: Arc<str>,
    /// Namespace of the DestinationRule that says so.
    pub namespace: Arc<str>,
    /// Namespaces whose routes may name it; `None` for all.
    pub clients: Option<Vec<Arc<str>>>,
    /// None stands for every endpoint.
    pub labels: BTreeMap<String, String>,
    /// How its endpoints are chosen from.
    pub balance: BalancePolicy,
    /// How many retries there may be at once.
    pub retry_share: RetryShare,
    /// What else is asked for.
    pub policies: Option<Arc<ClusterPolicies>>,
    /// Name of its cluster.
    pub cluster: Arc<str>,
    /// Id of its cluster.
    pub id: ClusterId,
}

/// Ports by Service, in the order of their numbers.
pub(super) type Ports = ByKey<Vec<Port>>;

/// Addresses of one Service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Addresses {
    /// Those that are proxied.
    pub own: Vec<IpAddr>,
    /// Those that pass.
    pub passed: Vec<IpAddr>,
    /// It has none and is to be given one.
    pub lacking: bool,
}

impl Addresses {
    /// Reads those of a Service.
    pub(super) fn read(at: &At<'_, Service>, problems: &mut Problems) -> Self {
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
        found.lacking =
            found.own.is_empty() && at.origin == Origin::Files && needs_cluster_ip(at.object);
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

/// Reads the ports of a Service, which has the address `given` if it has none of its own.
pub(super) fn ports(
    at: &At<'_, Service>,
    found: &Addresses,
    given: Option<Ipv4Addr>,
    ids: &mut ClusterIds,
    problems: &mut Problems,
) -> Vec<Port> {
    let Some(spec) = &at.object.spec else {
        return Vec::new();
    };
    let balance = balance(at, problems);
    let (mode, direct) = (direct::mode(at, problems), direct::policy(at, problems));
    let mut ports: Vec<Port> = Vec::new();
    for (index, kube) in spec.ports.iter().flatten().enumerate() {
        let field = format!("spec.ports[{index}].port");
        let Some(number) = u16::try_from(kube.port).ok().filter(|number| *number > 0) else {
            let reason = format!("found {}, accepted: 1 to 65535", kube.port);
            problems.error(at.located, field, reason);
            continue;
        };
        let cluster = cluster_name(at.key(), number, protocol(kube));
        if ports.iter().any(|port| port.cluster == cluster) {
            problems.error(at.located, field, format!("port {number} stands twice"));
            continue;
        }
        let socket = |ip: IpAddr| SocketAddr::new(ip, number);
        let own = given
            .map(IpAddr::V4)
            .into_iter()
            .chain(found.own.iter().copied());
        ports.push(Port {
            service: Name {
                namespace: Arc::clone(&at.located.id.namespace),
                name: Arc::clone(&at.located.id.name),
            },
            number,
            name: kube.name.as_deref().unwrap_or_default().into(),
            tcp: protocol(kube) == "TCP",
            target: target(kube, number),
            addresses: own.map(socket).collect(),
            passed_addresses: found.passed.iter().copied().map(socket).collect(),
            clients: None,
            pass: pass(at, spec, kube),
            declared: declared(kube),
            balance,
            retry_share: RetryShare::default(),
            own_policies: Vec::new(),
            policies: None,
            mode,
            direct,
            id: ids.id(&cluster),
            cluster,
            subsets: Vec::new(),
            defaults: None,
            failure_accrual: None,
        });
    }
    ports.sort_by(|one, other| (one.number, &one.cluster).cmp(&(other.number, &other.cluster)));
    direct::warn_of_affinity(at, &ports, problems);
    ports
}

fn target(port: &KubePort, number: u16) -> Target {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Target::Number(number),
        Some(IntOrString::Int(other)) => {
            u16::try_from(*other).map_or(Target::Nothing, Target::Number)
        }
        Some(IntOrString::String(name)) => Target::Named(name.as_str().into()),
    }
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
pub(super) fn declared(port: &KubePort) -> Declared {
    use UpstreamProtocol::{AsReceived, Http2};
    if let Some(protocol) = port.app_protocol.as_deref().filter(|text| !text.is_empty()) {
        return match protocol.to_ascii_lowercase().as_str() {
            "http" | "kubernetes.io/ws" | "grpc-web" => Declared::Http(AsReceived),
            "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => Declared::Http(Http2),
            "https" | "tls" => Declared::Tls,
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
        "https" | "tls" => Declared::Tls,
        "tcp" | "mongo" | "mysql" | "redis" | "udp" | "sctp" => Declared::Opaque,
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
        Some("random") => BalancePolicy::Random,
        Some(other) => {
            let reason = format!("found `{other}`, accepted: least-request, round-robin, random");
            problems.error(
                at.located,
                format!("metadata.annotations[{BALANCE}]"),
                reason,
            );
            BalancePolicy::LeastRequest
        }
    }
}
