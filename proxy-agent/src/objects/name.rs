//! Names of objects as the API server accepts them: what it would refuse is no object.

/// Bytes of a label (RFC 1123, section 2.1).
const MAX_LABEL: usize = 63;
/// Bytes of a name of several.
const MAX_SUBDOMAIN: usize = 253;

/// What is wrong with the name of a namespace.
pub(super) fn namespace(name: &str) -> Result<(), String> {
    let accepted = "lower case letters, digits and `-` between them, at most 63 characters";
    judge(is_label(name, MAX_LABEL), name, accepted)
}

/// What is wrong with the name of an object of a kind.
pub(super) fn object(group: &str, kind: &str, name: &str) -> Result<(), String> {
    if matches!((group, kind), ("", "Namespace" | "Service")) {
        return namespace(name);
    }
    // No part of it has a bound of its own: `IsDNS1123Subdomain` of Kubernetes' validation.
    let labels = name.split('.').all(|label| is_label(label, MAX_SUBDOMAIN));
    let accepted =
        "lower case letters, digits, and `-` and `.` between them, at most 253 characters";
    judge(labels && name.len() <= MAX_SUBDOMAIN, name, accepted)
}

fn judge(accepts: bool, name: &str, accepted: &str) -> Result<(), String> {
    if accepts {
        return Ok(());
    }
    Err(format!("found `{name}`, accepted: {accepted}"))
}

fn is_label(text: &str, longest: usize) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let dashed = text.starts_with('-') || text.ends_with('-');
    (1..=longest).contains(&text.len()) && text.bytes().all(inside) && !dashed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_api_server_accepts() {
        let long = "a".repeat(64);
        let longer = "a".repeat(254);
        for (kind, name, accepted) in [
            ("Service", "web", true),
            ("Service", "1web-2", true),
            ("Service", "web.shop", false),
            ("Service", "Web", false),
            ("Service", "web_1", false),
            ("Service", "-web", false),
            ("Service", "web-", false),
            ("Service", &long, false),
            ("Pod", "web.shop", true),
            ("Pod", &long, true),
            ("Pod", &longer, false),
            ("Pod", "web..shop", false),
            ("Pod", "web/shop", false),
            ("Namespace", "a.b", false),
        ] {
            assert_eq!(object("", kind, name).is_ok(), accepted, "{kind} {name}");
        }
        let said = object("", "Service", "Web").unwrap_err();
        assert!(
            said.starts_with("found `Web`, accepted: lower case"),
            "{said}"
        );
    }
}
