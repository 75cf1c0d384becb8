//! EndpointSlices as an API server writes them, from their text straight to what is kept: no object
//! changes as often as they do.
//!
//! Reads what is well alone. Of anything else `read_served` says what is wrong with it.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use serde::Deserialize;

use super::{SLICE_KIND, Slice};
use crate::model::{ObjectId, Place};
use crate::objects::{Located, Object, name};

const GROUP: &str = SLICE_KIND.0;
const KIND: &str = SLICE_KIND.1;

/// An EndpointSlice that was read.
#[derive(Debug)]
pub struct ServedSlice {
    /// The slice.
    pub located: Located,
    /// Its `metadata.resourceVersion`.
    pub version: String,
}

/// The fields that are read; texts with escapes, which none of these have, are not.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    address_type: String,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<EndpointPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    namespace: &'a str,
    name: &'a str,
    resource_version: &'a str,
    #[serde(borrow, default)]
    labels: Labels<'a>,
}

#[derive(Default, Deserialize)]
struct Labels<'a> {
    /// [`super::SERVICE_NAME`].
    #[serde(rename = "kubernetes.io/service-name")]
    service: Option<&'a str>,
}

/// Reads a slice as an API server gave it; `None` if it is not as one gives them.
pub fn read_served_slice(text: &str, place: &Place) -> Option<ServedSlice> {
    let text: Text<'_> = serde_json::from_str(text).ok()?;
    let metadata = text.metadata;
    name::namespace(metadata.namespace).ok()?;
    name::object(GROUP, KIND, metadata.name).ok()?;
    let slice = EndpointSlice {
        address_type: text.address_type,
        endpoints: text.endpoints.unwrap_or_default(),
        ports: text.ports,
        ..EndpointSlice::default()
    };
    let service = metadata.labels.service.map(Arc::from);
    let slice = Slice::of_service(service, slice, metadata.namespace);
    let located = Located {
        id: ObjectId {
            group: GROUP.into(),
            kind: KIND.into(),
            namespace: metadata.namespace.into(),
            name: metadata.name.into(),
        },
        place: place.clone(),
        object: Object::EndpointSlice(Box::new(slice)),
        unread: Vec::new(),
    };
    Some(ServedSlice {
        located,
        version: metadata.resource_version.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::objects::{SERVICE_NAME, read_served};

    fn place() -> Place {
        Place {
            source: "test".into(),
            line: 0,
        }
    }

    fn slice(metadata: Value, more: Value) -> Value {
        let mut slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": KIND,
            "metadata": {"name": "web-1", "namespace": "ns", "resourceVersion": "7"},
            "addressType": "IPv4"});
        for (into, from) in [("metadata", metadata), ("", more)] {
            let into = match into {
                "" => slice.as_object_mut(),
                name => slice[name].as_object_mut(),
            };
            into.unwrap().extend(from.as_object().unwrap().clone());
        }
        slice
    }

    fn direct(slice: &Value) -> Option<ServedSlice> {
        read_served_slice(&slice.to_string(), &place())
    }

    #[test]
    fn a_slice_is_what_it_is_by_way_of_values() {
        let endpoints = json!([
            {"addresses": ["10.0.0.1", "10.0.0.9"], "conditions": {"ready": true}, "nodeName": "n",
                "zone": "a", "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n"}]},
                "targetRef": {"kind": "Pod", "name": "p"}, "novelty": {"deep": [1]}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "terminating": true}},
            {"addresses": ["none"]},
            {"addresses": []},
        ]);
        let ports = json!([{"name": "http", "port": 80}, {"port": 53, "protocol": "UDP"}]);
        let labels = json!({"labels": {SERVICE_NAME: "web", "x": "y"}, "annotations": {"a": "\"b\""},
            "managedFields": [{"fieldsV1": {"f:ports": {}}, "time": "2026-01-01T00:00:00Z"}]});
        let full = slice(labels, json!({"endpoints": endpoints, "ports": ports}));
        let named = json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.org"]}]});
        let named = slice(json!({"labels": {"x": "y"}}), named);
        let nothing = slice(
            json!({}),
            json!({"endpoints": null, "ports": null, "new": 1}),
        );
        for value in [&full, &named, &nothing] {
            let read = direct(value).unwrap();
            let parsed = read_served(value.clone(), place());
            assert_eq!((parsed.problems, parsed.rejected), (Vec::new(), Vec::new()));
            assert_eq!([read.located], parsed.objects[..]);
            assert_eq!(read.version, "7");
        }
        let other = slice(json!({"labels": {SERVICE_NAME: "other"}}), json!({}));
        let (one, other) = (direct(&full).unwrap(), direct(&other).unwrap());
        assert_ne!(one.located, other.located);
    }

    #[test]
    fn one_that_is_not_as_a_server_gives_them_is_left_to_those_that_say_why() {
        let well = slice(json!({}), json!({}));
        assert!(direct(&well).is_some());
        for (metadata, more) in [
            (json!({"name": "Web"}), json!({})),
            (json!({"name": null}), json!({})),
            (json!({"namespace": ""}), json!({})),
            (json!({"namespace": "a.b"}), json!({})),
            (json!({"resourceVersion": null}), json!({})),
            (json!({"labels": []}), json!({})),
            (json!({}), json!({"addressType": 4})),
            (json!({}), json!({"endpoints": "none"})),
            (json!({}), json!({"endpoints": [{"addresses": [1]}]})),
            (json!({}), json!({"ports": [{"port": "http"}]})),
        ] {
            let odd = slice(metadata, more);
            assert!(direct(&odd).is_none(), "{odd}");
        }
        assert!(read_served_slice("{", &place()).is_none());
    }
}
