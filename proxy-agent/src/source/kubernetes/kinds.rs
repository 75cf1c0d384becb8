//! The kinds that are read from an API server: where they stand and in which versions.

use crate::objects::{Object, SLICE_KIND};

/// When a kind is followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Follow {
    /// Every API server has it: nothing is complete without it.
    Always,
    /// Every API server has it, and all else is complete without it: where the agent may read it.
    WhenAllowed,
    /// Where its definition is installed and the agent may read it.
    WhenServed,
    /// While there are objects that select pods of the whole cluster.
    WhenPodsAreSelected,
}

/// Which objects of a kind are followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// All of them.
    All,
    /// The node itself.
    NodeItself,
    /// Those of this node.
    OwnNode,
    /// Those of the other nodes.
    OtherNodes,
}

/// A kind that is read.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Kind {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Name of the kind.
    pub kind: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
    /// Versions that are read, the newest first.
    pub versions: &'static [&'static str],
    /// When it is followed.
    pub follow: Follow,
    /// Which of its objects are.
    pub scope: Scope,
}

impl Kind {
    /// As `status` names it.
    pub(super) fn title(&self) -> String {
        let scope = match self.scope {
            Scope::All => "",
            Scope::NodeItself | Scope::OwnNode => " (this node)",
            Scope::OtherNodes => " (other nodes)",
        };
        if self.group.is_empty() {
            return format!("{}{scope}", self.kind);
        }
        format!("{}.{}{scope}", self.kind, self.group)
    }

    /// `apiVersion` of its objects.
    pub(super) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() {
            return version.to_owned();
        }
        format!("{}/{version}", self.group)
    }

    /// Path of its objects in every namespace.
    pub(super) fn path(&self, version: &str) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{root}/{}/{}", self.api_version(version), self.plural)
    }

    /// Selects the objects that are followed on the node of that name.
    pub(super) fn field_selector(&self, node: &str) -> Option<String> {
        match self.scope {
            Scope::All => None,
            Scope::NodeItself => Some(format!("metadata.name={node}")),
            Scope::OwnNode => Some(format!("spec.nodeName={node}")),
            Scope::OtherNodes => Some(format!("spec.nodeName!={node}")),
        }
    }
}

const ALWAYS: Kind = Kind {
    group: "",
    kind: "",
    plural: "",
    versions: &["v1"],
    follow: Follow::Always,
    scope: Scope::All,
};

/// Every kind that is read. Objects come in the order of this table.
pub(super) const KINDS: [Kind; 20] = [
    Kind {
        kind: "Namespace",
        plural: "namespaces",
        ..ALWAYS
    },
    Kind {
        kind: "Pod",
        plural: "pods",
        scope: Scope::OwnNode,
        ..ALWAYS
    },
    Kind {
        kind: "Pod",
        plural: "pods",
        follow: Follow::WhenPodsAreSelected,
        scope: Scope::OtherNodes,
        ..ALWAYS
    },
    Kind {
        kind: "Service",
        plural: "services",
        ..ALWAYS
    },
    Kind {
        group: SLICE_KIND.0,
        kind: SLICE_KIND.1,
        plural: "endpointslices",
        ..ALWAYS
    },
    Kind {
        group: "gateway.networking.k8s.io",
        kind: "HTTPRoute",
        plural: "httproutes",
        versions: &["v1", "v1beta1"],
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "gateway.networking.k8s.io",
        kind: "GRPCRoute",
        plural: "grpcroutes",
        versions: &["v1", "v1beta1", "v1alpha2"],
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "gateway.networking.k8s.io",
        kind: "ReferenceGrant",
        plural: "referencegrants",
        versions: &["v1", "v1beta1"],
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "gateway.networking.k8s.io",
        kind: "TCPRoute",
        plural: "tcproutes",
        versions: &["v1", "v1alpha2"],
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "gateway.networking.k8s.io",
        kind: "TLSRoute",
        plural: "tlsroutes",
        versions: &["v1", "v1alpha3", "v1alpha2"],
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "linkerd.io",
        kind: "Route",
        plural: "routes",
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "linkerd.io",
        kind: "Service",
        plural: "services",
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "networking.istio.io",
        kind: "DestinationRule",
        plural: "destinationrules",
        versions: &["v1", "v1beta1", "v1alpha3"],
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "networking.istio.io",
        kind: "ServiceEntry",
        plural: "serviceentries",
        versions: &["v1", "v1beta1", "v1alpha3"],
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "networking.istio.io",
        kind: "VirtualService",
        plural: "virtualservices",
        versions: &["v1", "v1beta1", "v1alpha3"],
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "linkerd.io",
        kind: "ServiceProfile",
        plural: "serviceprofiles",
        versions: &["v1alpha2", "v1alpha1"],
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "policy.linkerd.io",
        kind: "HTTPRoute",
        plural: "httproutes",
        versions: &["v1beta3", "v1beta2", "v1beta1"],
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "split.smi-spec.io",
        kind: "TrafficSplit",
        plural: "trafficsplits",
        versions: &SMI,
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        group: "specs.smi-spec.io",
        kind: "HTTPRouteGroup",
        plural: "httproutegroups",
        versions: &SMI,
        follow: Follow::WhenServed,
        ..ALWAYS
    },
    Kind {
        kind: "Node",
        plural: "nodes",
        follow: Follow::WhenAllowed,
        scope: Scope::NodeItself,
        ..ALWAYS
    },
];

/// Versions of the Service Mesh Interface's kinds.
const SMI: [&str; 4] = ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"];

/// Whether objects of this kind may select pods wherever they run.
pub(super) fn may_select_pods(kind: &Kind) -> bool {
    let selecting = [
        ("linkerd.io", "Service"),
        ("networking.istio.io", "DestinationRule"),
        ("networking.istio.io", "ServiceEntry"),
    ];
    selecting.contains(&(kind.group, kind.kind))
}

/// Whether an object of such a kind does.
pub(super) fn selects_pods(object: &Object) -> bool {
    let alone =
        matches!(object, Object::ServiceEntry(entry) if entry.spec.workload_selector.is_none());
    !alone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_paths_of_the_api() {
        let paths: Vec<_> = KINDS
            .iter()
            .map(|kind| kind.path(kind.versions[0]))
            .collect();
        assert_eq!(paths[0], "/api/v1/namespaces");
        assert_eq!(paths[4], "/apis/discovery.k8s.io/v1/endpointslices");
        assert_eq!(paths[5], "/apis/gateway.networking.k8s.io/v1/httproutes");
    }

    #[test]
    fn the_pods_of_a_node_and_of_the_others_are_all_pods_once() {
        let selectors: Vec<_> = KINDS
            .iter()
            .filter(|kind| kind.kind == "Pod")
            .filter_map(|kind| kind.field_selector("n1"))
            .collect();
        assert_eq!(selectors, ["spec.nodeName=n1", "spec.nodeName!=n1"]);
    }

    #[test]
    fn titles_tell_kinds_of_one_name_apart() {
        let mut titles: Vec<_> = KINDS.iter().map(Kind::title).collect();
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), KINDS.len());
    }
}
