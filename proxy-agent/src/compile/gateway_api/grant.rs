//! ReferenceGrant: which references into another namespace its owner allows.

use gateway_api::apis::experimental::referencegrants::ReferenceGrant;

use crate::compile::index::At;

const GROUP: &str = "gateway.networking.k8s.io";

/// Whether any of a namespace's grants lets a route of `kind` in the namespace `from` name its
/// Service `name`.
pub(super) fn allows<'a>(
    mut grants: impl Iterator<Item = At<'a, ReferenceGrant>>,
    kind: &str,
    from: &str,
    name: &str,
) -> bool {
    grants.any(|at| {
        let spec = &at.object.spec;
        let trusted = spec
            .from
            .iter()
            .any(|one| one.group == GROUP && one.kind == kind && one.namespace == from);
        let open = spec.to.iter().any(|one| {
            let whole_kind = one.name.as_deref().unwrap_or_default().is_empty();
            one.group.is_empty()
                && one.kind == "Service"
                && (whole_kind || one.name.as_deref() == Some(name))
        });
        trusted && open
    })
}
