//! ServiceEntry: each of its hosts is a service of its own, beside those of Kubernetes, under its
//! namespace and the host's name.

mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ServicePort;

use crate::compile::by_key::Name;
use crate::compile::cluster_ids::ClusterIds;
use crate::compile::direct::Mode;
use crate::compile::endpoints;
use crate::compile::index::{At, Index};
use crate::compile::service::{self, Declared, Port, Target};
use crate::model::{
    BalancePolicy, DirectPolicy, Endpoint, PassReason, RetryShare, UpstreamProtocol,
};
use crate::objects::istio::{EntryEndpoint, EntryPort, ServiceEntry, ServiceEntrySpec};

pub(in crate::compile) use judge::judge;

/// Where the endpoints of an entry come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    /// Those that clients connect to.
    Clients,
    /// Those that are written, or the pods that are selected.
    Written,
    /// What names resolve to.
    Names,
}

/// The entry's services, by namespace and host in lower case.
pub(in crate::compile) fn services(at: &At<'_, ServiceEntry>) -> impl Iterator<Item = Name> {
    let namespace = Arc::clone(&at.located.id.namespace);
    let hosts = at.object.spec.hosts.iter();
    hosts.map(move |host| Name {
        namespace: Arc::clone(&namespace),
        name: normal(host).into(),
    })
}

/// A host name in the form in which names are compared.
pub(in crate::compile) fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Namespaces whose clients see the entry; `None` for all.
pub(in crate::compile) fn clients(at: &At<'_, ServiceEntry>) -> Option<Vec<Arc<str>>> {
    let export_to = &at.object.spec.export_to;
    if export_to.is_empty() || export_to.iter().any(|namespace| namespace == "*") {
        return None;
    }
    let namespaces = export_to.iter().map(|namespace| match namespace.as_str() {
        "." => Arc::clone(&at.located.id.namespace),
        other => Arc::from(other),
    });
    Some(namespaces.collect())
}

/// Labels of the pods that are endpoints.
pub(in crate::compile) fn selector<'a>(
    at: &At<'a, ServiceEntry>,
) -> Option<&'a BTreeMap<String, String>> {
    let spec = &at.object.spec;
    let selector = spec.workload_selector.as_ref().map(|one| &one.labels);
    selector.filter(|labels| {
        source(spec) == Ok(Source::Written) && spec.endpoints.is_empty() && !labels.is_empty()
    })
}

/// Names that must be resolved for one of the entry's services.
pub(in crate::compile) fn lookups(at: &At<'_, ServiceEntry>, host: &str) -> BTreeSet<Arc<str>> {
    let spec = &at.object.spec;
    let mut names = BTreeSet::new();
    let Ok(source) = source(spec) else {
        return names;
    };
    let by_name = source == Source::Names;
    let own = spec.addresses.is_empty() || by_name && spec.endpoints.is_empty();
    if own && is_name(host) {
        names.insert(Arc::from(host));
    }
    let written = spec.endpoints.iter().filter(|_| by_name);
    let written = written.filter_map(|one| one.address.as_deref());
    names.extend(
        written
            .map(normal)
            .filter(|name| is_name(name))
            .map(Arc::from),
    );
    names
}

/// Addresses by which clients reach one of the entry's services.
pub(in crate::compile) fn addresses(
    at: &At<'_, ServiceEntry>,
    host: &str,
    index: &Index,
) -> Vec<IpAddr> {
    let spec = &at.object.spec;
    if source(spec).is_err() {
        return Vec::new();
    }
    if spec.addresses.is_empty() {
        return index.resolved(host).to_vec();
    }
    let written = spec.addresses.iter();
    written.filter_map(|text| address(text).ok()).collect()
}

/// The ports of one of the entry's services.
pub(in crate::compile) fn ports(
    at: &At<'_, ServiceEntry>,
    service: &Name,
    addresses: &[IpAddr],
    ids: &mut ClusterIds,
) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for written in &at.object.spec.ports {
        let (Ok(number), Ok(target), Ok(declared)) =
            (number(written.number), target(written), declared(written))
        else {
            continue;
        };
        if ports.iter().any(|port| port.number == number) {
            continue;
        }
        let (namespace, host) = service.key();
        let cluster: Arc<str> = format!("{namespace}/{host}:{number}").into();
        let socket = |ip: &IpAddr| SocketAddr::new(*ip, number);
        ports.push(Port {
            service: service.clone(),
            number,
            name: written.name.as_str().into(),
            tcp: true,
            target: Target::Number(target),
            addresses: addresses.iter().map(socket).collect(),
            passed_addresses: Vec::new(),
            clients: clients(at).map(Into::into),
            pass: (number == 53).then_some(PassReason::Dns),
            declared,
            balance: match source(&at.object.spec) {
                Ok(Source::Clients) => BalancePolicy::AsAsked,
                Ok(Source::Names | Source::Written) | Err(_) => BalancePolicy::default(),
            },
            retry_share: RetryShare::default(),
            own_policies: Vec::new(),
            policies: None,
            // Its endpoints are outside of the cluster, where no kernel table has them.
            mode: Some(Mode::Proxy),
            direct: DirectPolicy::default(),
            defaults: None,
            failure_accrual: None,
            id: ids.id(&cluster),
            cluster,
            subsets: Vec::new(),
        });
    }
    ports.sort_by_key(|port| port.number);
    ports
}

/// Endpoints of a port of one of the entry's services, with the labels that subsets go by.
pub(in crate::compile) fn endpoints(
    at: &At<'_, ServiceEntry>,
    port: &Port,
    index: &Index,
) -> Vec<(Endpoint, BTreeMap<String, String>)> {
    let spec = &at.object.spec;
    let target = match port.target {
        Target::Number(number) => number,
        Target::Named(_) | Target::Nothing => port.number,
    };
    let plain = |address: SocketAddr| Endpoint {
        address,
        pod: None,
        node: None,
        zone: None,
        weight: 1,
    };
    let resolved = |name: &str| {
        let addresses = index.resolved(name).iter();
        let all = addresses.map(|ip| (plain(SocketAddr::new(*ip, target)), BTreeMap::new()));
        all.collect::<Vec<_>>()
    };
    match source(spec) {
        Err(_) => Vec::new(),
        Ok(Source::Clients) => {
            let addresses = port.addresses.iter();
            let own = addresses.map(|one| plain(SocketAddr::new(one.ip(), target)));
            own.map(|one| (one, BTreeMap::new())).collect()
        }
        Ok(Source::Names) if spec.endpoints.is_empty() => resolved(&port.service.name),
        Ok(by @ (Source::Names | Source::Written)) => {
            if let Some(labels) = selector(at) {
                return of_pods(at, labels, target, index);
            }
            let written = spec.endpoints.iter();
            let each = written.flat_map(|one| written_endpoint(one, by, port, target, index));
            each.collect()
        }
    }
}

fn of_pods(
    at: &At<'_, ServiceEntry>,
    labels: &BTreeMap<String, String>,
    target: u16,
    index: &Index,
) -> Vec<(Endpoint, BTreeMap<String, String>)> {
    let namespace = &at.located.id.namespace;
    let pods = endpoints::of_pods(index, namespace, labels, |_| Some(target));
    let with_labels = pods.into_iter().map(|endpoint| {
        let pod = endpoint.pod.as_deref().and_then(|pod| pod.split_once('/'));
        let pod = pod.and_then(|key| index.get::<k8s_openapi::api::core::v1::Pod>(key));
        let labels = pod.and_then(|pod| pod.object.metadata.labels.clone());
        (endpoint, labels.unwrap_or_default())
    });
    with_labels.collect()
}

fn written_endpoint(
    from: &EntryEndpoint,
    by: Source,
    port: &Port,
    target: u16,
    index: &Index,
) -> Vec<(Endpoint, BTreeMap<String, String>)> {
    let own = from.ports.get(&*port.name);
    let Ok(number) = own.map_or(Ok(target), |written| number(*written)) else {
        return Vec::new();
    };
    let text = from.address.as_deref().unwrap_or_default();
    let name = normal(text);
    let addresses = match text.parse::<IpAddr>() {
        Ok(ip) => vec![ip.to_canonical()],
        Err(_) if by == Source::Names => index.resolved(&name).to_vec(),
        Err(_) => Vec::new(),
    };
    let zone = from
        .locality
        .as_deref()
        .and_then(|text| text.split('/').nth(1));
    let endpoint = |ip: IpAddr| Endpoint {
        address: SocketAddr::new(ip, number),
        pod: None,
        node: None,
        zone: zone.map(Arc::from),
        // None is as 1, and 0 as none: Istio's buildEnvoyLbEndpoint.
        weight: from.weight.unwrap_or(1).max(1),
    };
    let addresses = addresses.into_iter();
    addresses
        .map(|ip| (endpoint(ip), from.labels.clone()))
        .collect()
}

/// A name that DNS can be asked for: no address, no wildcard.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    text.len() <= 253 && text.split('.').all(label) && text.parse::<IpAddr>().is_err()
}

fn source(spec: &ServiceEntrySpec) -> Result<Source, String> {
    match spec.resolution.as_deref() {
        None | Some("NONE") => Ok(Source::Clients),
        Some("STATIC") => Ok(Source::Written),
        Some("DNS" | "DNS_ROUND_ROBIN") => Ok(Source::Names),
        Some(other) => Err(format!(
            "found `{other}`, accepted: NONE, STATIC, DNS, DNS_ROUND_ROBIN"
        )),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let found = address.parse::<IpAddr>();
    let ip = found.map_err(|_none| format!("found `{text}`, expected an IP address"))?;
    let whole = if ip.is_ipv4() { "32" } else { "128" };
    if !prefix.is_empty() && prefix != whole {
        return Err(format!(
            "found `{text}`, a range; accepted: an IP address, by which connections are told apart"
        ));
    }
    Ok(ip.to_canonical())
}

fn number(written: u32) -> Result<u16, String> {
    let number = u16::try_from(written).ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("found {written}, accepted: 1 to 65535"))
}

fn target(port: &EntryPort) -> Result<u16, String> {
    let target = port.target_port.filter(|target| *target > 0);
    number(target.unwrap_or(port.number))
}

fn declared(port: &EntryPort) -> Result<Declared, String> {
    use UpstreamProtocol::{AsReceived, Http2};
    let written = port.protocol.as_deref().unwrap_or_default();
    Ok(match written.to_ascii_uppercase().as_str() {
        "" => service::declared(&ServicePort {
            name: Some(port.name.clone()),
            ..ServicePort::default()
        }),
        "HTTP" | "HTTP_PROXY" | "GRPC-WEB" => Declared::Http(AsReceived),
        "HTTP2" | "GRPC" => Declared::Http(Http2),
        "HTTPS" | "TLS" => Declared::Tls,
        "TCP" | "MONGO" | "MYSQL" | "REDIS" => Declared::Opaque,
        _ => {
            return Err(format!(
                "found `{written}`, accepted: HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, \
                 MYSQL, REDIS"
            ));
        }
    })
}
