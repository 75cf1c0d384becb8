//! `headers` of a route or of a destination of a VirtualService.

use http::HeaderValue;
use http::header::HOST;

use crate::compile::faults::{Fault, Faults};
use crate::compile::text::{authority_value, header_edits, host_as_authority};
use crate::model::{Filters, HeaderEdits};
use crate::objects::istio::{HeaderOperations, Headers};

/// What Envoy calls the authority among headers: the `Host` of HTTP/1.1.
const AUTHORITY: &str = ":authority";

/// Compiles `headers`, which stands below `prefix`.
pub(super) fn filters(headers: Option<&Headers>, prefix: &str, faults: &mut Faults) -> Filters {
    let Some(headers) = headers else {
        return Filters::default();
    };
    let dot = if prefix.is_empty() { "" } else { "." };
    let field = |way: &str| format!("{prefix}{dot}headers.{way}");
    let request = headers.request.as_ref();
    let request = request.map(|from| edits(from, &field("request"), true, faults));
    let response = headers.response.as_ref();
    let response = response.map(|from| edits(from, &field("response"), false, faults));
    let mut filters = Filters {
        request_headers: request.unwrap_or_default(),
        response_headers: response.unwrap_or_default(),
        ..Filters::default()
    };
    host_as_authority(&mut filters);
    filters
}

fn is_host(name: &str) -> bool {
    name == AUTHORITY || name.eq_ignore_ascii_case("host")
}

/// Each header alone, so that each that cannot be edited is named by its name.
fn edits(
    from: &HeaderOperations,
    field: &str,
    of_request: bool,
    faults: &mut Faults,
) -> HeaderEdits {
    let mut all = HeaderEdits::default();
    for (list, entries) in [("set", &from.set), ("add", &from.add)] {
        for (name, value) in entries {
            let field = format!("{field}.{list}[{name}]");
            let sets_host = of_request && list == "set" && is_host(name);
            if sets_host {
                let value = faults.of(authority(value, &field).map(Some));
                all.set.extend(value.map(|value| (HOST, value)));
                continue;
            }
            let pair = [(name, value)];
            let one = match list {
                "set" => header_edits(pair, [], []),
                _ => header_edits([], pair, []),
            };
            let one = faults.of(one.map_err(|(_, reason)| (field, reason)));
            all.set.extend(one.set);
            all.add.extend(one.add);
        }
    }
    for (index, name) in from.remove.iter().enumerate() {
        let one = header_edits([], [], [name]);
        let one = one.map_err(|(_, reason)| (format!("{field}.remove[{index}]"), reason));
        all.remove.extend(faults.of(one).remove);
    }
    all
}

/// An authority that requests can have.
pub(super) fn authority(text: &str, field: &str) -> Result<HeaderValue, Fault> {
    authority_value(text).map_err(|reason| (field.to_owned(), reason))
}
