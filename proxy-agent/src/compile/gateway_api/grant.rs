//! ReferenceGrant: which references into another namespace its owner allows.

use gateway_api::apis::experimental::referencegrants::ReferenceGrant;

use crate::compile::index::At;
use crate::model::ObjectId;

/// Whether any of a namespace's grants lets a route name its Service `name`.
pub(super) fn allows<'a>(
    mut grants: impl Iterator<Item = At<'a, ReferenceGrant>>,
    route: &ObjectId,
    name: &str,
) -> bool {
    grants.any(|at| {
        let spec = &at.object.spec;
        let trusted = spec.from.iter().any(|one| {
            *one.group == *route.group
                && *one.kind == *route.kind
                && *one.namespace == *route.namespace
        });
        let open = spec.to.iter().any(|one| {
            let whole_kind = one.name.as_deref().unwrap_or_default().is_empty();
            one.group.is_empty()
                && one.kind == "Service"
                && (whole_kind || one.name.as_deref() == Some(name))
        });
        trusted && open
    })
}
