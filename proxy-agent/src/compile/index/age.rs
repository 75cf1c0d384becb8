//! How old objects are.

use crate::objects::Located;

/// Creation time in nanoseconds since 1970; objects without one count as the youngest.
pub(in crate::compile) fn created(located: &Located) -> i128 {
    located
        .object
        .metadata()
        .and_then(|metadata| metadata.creation_timestamp.as_ref())
        .map_or(i128::MAX, |time| time.0.as_nanosecond())
}
