//! Layers of the agent: imports point down only, and each foreign crate has its doors.

use std::path::Path;

use super::product;

/// Modules of the agent by layer, the lowest first. Modules of one layer meet in the one above.
const LAYERS: &[&[&str]] = &[
    &["model", "objects", "status"],
    &["balance", "compile", "metrics", "outlier", "retry", "route"],
    &["bpf", "net", "source"],
    &["capture", "proxy"],
    &[
        "admin", "agent", "cli", "client", "explain", "log", "main", "report", "validate", "verbs",
    ],
];

/// Layers whose modules may use each other: plain data, and the application.
const OPEN_LAYERS: &[usize] = &[0, 4];

/// Foreign crates and the modules that may name them.
const DOORS: &[(&str, &[&str])] = &[
    ("aya", &["bpf"]),
    ("aya_log", &["bpf"]),
    ("clap", &["cli", "main"]),
    ("anyhow", &["agent", "main", "verbs"]),
    ("nix", &["agent", "bpf", "capture", "cli", "net"]),
    ("hyper", &["admin", "client", "proxy"]),
    ("hyper_util", &["admin", "client", "proxy"]),
    ("hickory_resolver", &["source"]),
    ("notify", &["source"]),
    ("rustix", &["net"]),
    ("gateway_api", &["compile", "objects"]),
    ("k8s_openapi", &["compile", "objects", "report", "source"]),
    ("kube", &["report", "source"]),
    ("prometheus_client", &["metrics"]),
];

/// Findings of one file of the agent; `path` is relative to its `src`.
pub(super) fn check(path: &Path, text: &str) -> Vec<String> {
    let Some(module) = module_of(path) else {
        return Vec::new();
    };
    if module == "lib" || path.ends_with("tests.rs") {
        return Vec::new();
    }
    let Some(own) = layer_of(&module) else {
        return vec![format!(
            "module {module} has no layer: add it in xtask/src/tidy/layers.rs"
        )];
    };
    let mut findings = Vec::new();
    for (number, line) in product(text).lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        let place = number + 1;
        for used in own_modules(line) {
            let (Some(layer), true) = (layer_of(used), used != module) else {
                continue;
            };
            let allowed = layer < own || (layer == own && OPEN_LAYERS.contains(&own));
            if !allowed {
                findings.push(format!(
                    "line {place}: {module} (L{}) uses {used} (L{}), which is not below it",
                    own + 1,
                    layer + 1
                ));
            }
        }
        for (name, doors) in DOORS {
            if uses_crate(line, name) && !doors.contains(&module.as_str()) {
                let doors = doors.join(", ");
                findings.push(format!("line {place}: {name} is for {doors} only"));
            }
        }
    }
    findings
}

fn module_of(path: &Path) -> Option<String> {
    let first = path.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Names after `crate::` in a line, also those in braces.
fn own_modules(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).flat_map(|rest| {
        let group = rest
            .strip_prefix('{')
            .and_then(|group| group.split('}').next());
        let names = group
            .unwrap_or(rest)
            .split(if group.is_some() { ',' } else { '\0' });
        names.map(|name| word(name.trim_start()))
    })
}

/// Whether a path in the line starts with that crate.
fn uses_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        starts && line[at + name.len()..].starts_with("::")
    })
}

fn word(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(Path::new(path), text).len()
    }

    #[test]
    fn imports_point_down_only() {
        assert_eq!(findings("proxy/http.rs", "use crate::route::find;\n"), 0);
        assert_eq!(findings("route.rs", "use crate::proxy::Worker;\n"), 1);
        assert_eq!(findings("proxy.rs", "let x = crate::capture::PORT;\n"), 1);
        assert_eq!(
            findings("proxy.rs", "use crate::{model, admin::Server};\n"),
            1
        );
        assert_eq!(
            findings("agent.rs", "use crate::admin::Server;\n"),
            0,
            "L5 is one"
        );
        assert_eq!(
            findings("proxy.rs", "use crate::proxy::tcp;\n"),
            0,
            "its own"
        );
    }

    #[test]
    fn a_foreign_crate_has_its_doors() {
        assert_eq!(findings("bpf/maps.rs", "use aya::maps::HashMap;\n"), 0);
        assert_eq!(findings("capture.rs", "use aya::maps::HashMap;\n"), 1);
        assert_eq!(
            findings("capture.rs", "use crate::bpf::aya::Maya;\n"),
            0,
            "not the crate"
        );
        assert_eq!(
            findings("capture.rs", "/// As aya::Ebpf does.\n"),
            0,
            "a comment"
        );
    }

    #[test]
    fn tests_and_the_map_of_modules_are_left_out() {
        let tests = "//! x\n\n#[cfg(test)]\nmod tests {\n    use crate::agent::Agent;\n}\n";
        assert_eq!(findings("route.rs", tests), 0);
        assert_eq!(findings("lib.rs", "pub use crate::agent::Agent;\n"), 0);
    }

    #[test]
    fn a_module_without_a_layer_is_found() {
        assert_eq!(findings("novelty.rs", "//! x\n"), 1);
    }
}
