//! Kinds that are read, by group, with their versions.

/// Versions of the Service Mesh Interface's kinds.
pub(super) const SMI: [&str; 4] = ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"];

const ISTIO: &str = "v1, v1beta1, v1alpha3";
const ALL_OF_SMI: &str = "v1alpha4, v1alpha3, v1alpha2, v1alpha1";

/// Group, kind, versions.
const READ: [(&str, &str, &str); 18] = [
    ("", "Namespace", "v1"),
    ("", "Node", "v1"),
    ("", "Pod", "v1"),
    ("", "Service", "v1"),
    ("discovery.k8s.io", "EndpointSlice", "v1"),
    ("gateway.networking.k8s.io", "HTTPRoute", "v1, v1beta1"),
    (
        "gateway.networking.k8s.io",
        "GRPCRoute",
        "v1, v1beta1, v1alpha2",
    ),
    (
        "gateway.networking.k8s.io",
        "TLSRoute",
        "v1, v1alpha3, v1alpha2",
    ),
    ("gateway.networking.k8s.io", "TCPRoute", "v1, v1alpha2"),
    ("gateway.networking.k8s.io", "ReferenceGrant", "v1, v1beta1"),
    ("networking.istio.io", "VirtualService", ISTIO),
    ("networking.istio.io", "DestinationRule", ISTIO),
    ("networking.istio.io", "ServiceEntry", ISTIO),
    ("linkerd.io", "Service", "v1"),
    ("linkerd.io", "Route", "v1"),
    ("linkerd.io", "ServiceProfile", "v1alpha2, v1alpha1"),
    (
        "policy.linkerd.io",
        "HTTPRoute",
        "v1beta3, v1beta2, v1beta1",
    ),
    ("split.smi-spec.io", "TrafficSplit", ALL_OF_SMI),
];

/// What TrafficSplits refer to.
const GROUP: (&str, &str) = ("specs.smi-spec.io", "HTTPRouteGroup");

/// The versions that are read of a kind; `None` for kinds that are not read at all.
pub(super) fn versions_read(group: &str, kind: &str) -> Option<&'static str> {
    if (group, kind) == GROUP {
        return Some(ALL_OF_SMI);
    }
    let found = READ.iter().find(|one| (one.0, one.1) == (group, kind));
    found.map(|(_, _, versions)| *versions)
}

/// The kind that is meant by one of another letter case, or by its plural.
pub(super) fn meant(group: &str, kind: &str) -> Option<&'static str> {
    let all = READ.iter().map(|(group, kind, _)| (*group, *kind));
    let mut here = all.chain([GROUP]).filter(|one| one.0 == group);
    let same = |known: &str| {
        let plural = kind.strip_suffix(['s', 'S']);
        [Some(kind), plural]
            .into_iter()
            .flatten()
            .any(|written| written.eq_ignore_ascii_case(known))
    };
    here.find(|one| same(one.1)).map(|one| one.1)
}

/// The kind whose objects a list of this kind holds: any for `List`.
pub(super) fn listed<'k>(group: &str, version: &str, kind: &'k str) -> Option<&'k str> {
    let items = kind.strip_suffix("List")?;
    let known = (items, group, version) == ("", "", "v1") || versions_read(group, items).is_some();
    known.then_some(items)
}
