//! JSON schemas of the kinds that the chart makes, from the types that the agent reads Kubernetes'
//! objects with: nothing is downloaded.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use crate::workspace::target;

/// Writes a file for each kind, named as kubeconform asks for it, and returns their directory.
pub(super) fn write() -> Result<PathBuf> {
    let directory = target("schemas");
    fs::create_dir_all(&directory).context("make target/schemas")?;
    let schemas = [
        ("clusterrole-rbac-v1", schema::<ClusterRole>()),
        ("clusterrolebinding-rbac-v1", schema::<ClusterRoleBinding>()),
        ("configmap-v1", schema::<ConfigMap>()),
        ("daemonset-apps-v1", schema::<DaemonSet>()),
        ("namespace-v1", schema::<Namespace>()),
        ("networkpolicy-networking-v1", schema::<NetworkPolicy>()),
        ("role-rbac-v1", schema::<Role>()),
        ("rolebinding-rbac-v1", schema::<RoleBinding>()),
        ("serviceaccount-v1", schema::<ServiceAccount>()),
    ];
    for (name, schema) in schemas {
        let path = directory.join(format!("{name}.json"));
        let text = schema.to_string();
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(directory)
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07();
    let mut schema = SchemaGenerator::new(settings)
        .into_root_schema_for::<T>()
        .to_value();
    refuse_unknown_fields(&mut schema);
    schema
}

/// An object that names its fields has no others: a misspelt one is an error.
fn refuse_unknown_fields(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("properties").is_some_and(Value::is_object) {
                map.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            map.values_mut().for_each(refuse_unknown_fields);
        }
        Value::Array(items) => items.iter_mut().for_each(refuse_unknown_fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_a_kind_does_not_have_is_refused_at_any_depth() {
        let schema = schema::<NetworkPolicy>();
        let definitions = schema["definitions"].as_object().unwrap();
        assert!(definitions.len() > 5);
        for (name, definition) in definitions {
            let named = definition.get("properties").is_some();
            assert_eq!(
                named,
                definition.get("additionalProperties") == Some(&Value::Bool(false)),
                "{name}"
            );
        }
        assert_eq!(schema["additionalProperties"], Value::Bool(false));
    }
}
