//! ReferenceGrant: which references into another namespace its owner allows.

use std::collections::HashMap;

use gateway_api::apis::experimental::referencegrants::ReferenceGrant;

const GROUP: &str = "gateway.networking.k8s.io";

/// Whether a route of `kind` in the namespace `from` may name the Service `name` of namespace `to`.
pub(super) fn allows(
    grants: &HashMap<&str, Vec<&ReferenceGrant>>,
    kind: &str,
    from: &str,
    (to, name): (&str, &str),
) -> bool {
    grants.get(to).into_iter().flatten().any(|grant| {
        let trusted = grant
            .spec
            .from
            .iter()
            .any(|one| one.group == GROUP && one.kind == kind && one.namespace == from);
        let open = grant.spec.to.iter().any(|one| {
            let whole_kind = one.name.as_deref().unwrap_or_default().is_empty();
            one.group.is_empty()
                && one.kind == "Service"
                && (whole_kind || one.name.as_deref() == Some(name))
        });
        trusted && open
    })
}
