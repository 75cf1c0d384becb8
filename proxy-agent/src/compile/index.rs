//! Objects of all sources, by kind and by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gateway_api::apis::experimental::grpcroutes::GrpcRouteRulesMatches;
use gateway_api::apis::experimental::httproutes::HttpRoute;
use gateway_api::apis::experimental::referencegrants::ReferenceGrant;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::by_key::{ByKey, Key};
use super::problems::Problems;
use crate::model::{ObjectId, Place};
use crate::objects::{Located, Object, ObjectSet, Origin, istio, linkerd};

/// Label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// An object with where it stands.
#[derive(Debug)]
pub(super) struct At<'a, T> {
    /// Its identity and place.
    pub located: &'a Located,
    /// The object itself.
    pub object: &'a T,
    /// Where its source has it from.
    pub origin: Origin,
}

impl<T> At<'_, T> {
    /// Namespace and name.
    pub(super) fn key(&self) -> Key<'_> {
        (&self.located.id.namespace, &self.located.id.name)
    }
}

/// Every object once.
#[derive(Debug, Default)]
pub(super) struct Index<'a> {
    pub namespaces: HashMap<&'a str, At<'a, Namespace>>,
    pub pods: Vec<At<'a, Pod>>,
    /// Places in `pods` by namespace and label: a selector looks at few of them.
    labelled: HashMap<(&'a str, &'a str, &'a str), Vec<usize>>,
    pub services: ByKey<'a, At<'a, Service>>,
    pub slices: ByKey<'a, Vec<At<'a, EndpointSlice>>>,
    pub http_routes: Vec<At<'a, HttpRoute>>,
    /// What they share with HTTPRoutes, and the matches of each rule.
    pub grpc_routes: Vec<(At<'a, HttpRoute>, &'a [Vec<GrpcRouteRulesMatches>])>,
    /// By the namespace that they open.
    pub grants: HashMap<&'a str, Vec<&'a ReferenceGrant>>,
    pub virtual_services: Vec<At<'a, istio::VirtualService>>,
    pub destination_rules: Vec<At<'a, istio::DestinationRule>>,
    pub linkerd_services: ByKey<'a, At<'a, linkerd::Service>>,
    pub linkerd_routes: Vec<At<'a, linkerd::Route>>,
    pub objects: Vec<(ObjectId, Place)>,
    pub unknown: Vec<(ObjectId, Place)>,
}

impl<'a> Index<'a> {
    /// Sorts the objects of all sets; of an object in two sets, the first set's counts.
    pub(super) fn new(sets: &'a [Arc<ObjectSet>], problems: &mut Problems) -> Self {
        let mut index = Self::default();
        let mut seen: HashMap<&ObjectId, &Place> = HashMap::new();
        for set in sets {
            for located in &set.objects {
                if let Some(first) = seen.get(&located.id) {
                    let reason = format!("stands at {first} too, which is in force");
                    problems.error(located, "", reason);
                    continue;
                }
                seen.insert(&located.id, &located.place);
                index.add(located, set.origin, problems);
            }
        }
        let age = |located: &Located| (created(located), located.id.clone());
        index.http_routes.sort_by_cached_key(|at| age(at.located));
        index
            .grpc_routes
            .sort_by_cached_key(|(at, _)| age(at.located));
        index
            .virtual_services
            .sort_by_cached_key(|at| age(at.located));
        index
            .destination_rules
            .sort_by_cached_key(|at| age(at.located));
        index
            .linkerd_routes
            .sort_by_cached_key(|at| age(at.located));
        index.objects.sort();
        index.unknown.sort();
        index
    }

    /// The pods of a namespace that carry every label of `selector`; none for an empty selector.
    pub(super) fn selected<'s>(
        &'s self,
        namespace: &str,
        selector: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'s At<'a, Pod>> {
        let mut labels = selector.iter().map(|(label, value)| {
            let key = (namespace, label.as_str(), value.as_str());
            self.labelled
                .get(&key)
                .map(Vec::as_slice)
                .unwrap_or_default()
        });
        let mut places = labels.next().unwrap_or_default().to_vec();
        for others in labels {
            places.retain(|place| others.binary_search(place).is_ok());
        }
        places.into_iter().filter_map(|place| self.pods.get(place))
    }

    fn add(&mut self, located: &'a Located, origin: Origin, problems: &mut Problems) {
        let entry = (located.id.clone(), located.place.clone());
        if matches!(located.object, Object::Unknown) {
            self.unknown.push(entry);
            return;
        }
        self.objects.push(entry);
        let key = (&*located.id.namespace, &*located.id.name);
        match &located.object {
            Object::Namespace(object) => {
                self.namespaces.insert(key.1, at(located, object, origin));
            }
            Object::Pod(object) => {
                for (label, value) in object.metadata.labels.iter().flatten() {
                    let places = self.labelled.entry((key.0, label, value)).or_default();
                    places.push(self.pods.len());
                }
                self.pods.push(at(located, object, origin));
            }
            Object::Service(object) => {
                self.services.insert(key, at(located, object, origin));
            }
            Object::EndpointSlice(object) => {
                let labels = object.metadata.labels.as_ref();
                match labels.and_then(|labels| labels.get(SERVICE_NAME)) {
                    Some(service) => {
                        let slices = self.slices.or_default((key.0, service));
                        slices.push(at(located, object, origin));
                    }
                    None => problems.warning(
                        located,
                        "metadata.labels",
                        format!("no label {SERVICE_NAME}: the slice belongs to no Service"),
                    ),
                }
            }
            Object::GrpcRoute(object) => {
                let shared = at(located, &object.shared, origin);
                self.grpc_routes.push((shared, &object.matches));
            }
            Object::HttpRoute(object) => self.http_routes.push(at(located, object, origin)),
            Object::ReferenceGrant(object) => {
                self.grants.entry(key.0).or_default().push(object);
            }
            Object::VirtualService(object) => {
                self.virtual_services.push(at(located, object, origin));
            }
            Object::DestinationRule(object) => {
                self.destination_rules.push(at(located, object, origin));
            }
            Object::LinkerdService(object) => {
                self.linkerd_services
                    .insert(key, at(located, object, origin));
            }
            Object::LinkerdRoute(object) => self.linkerd_routes.push(at(located, object, origin)),
            Object::Unknown => {}
        }
    }
}

fn at<'a, T>(located: &'a Located, object: &'a T, origin: Origin) -> At<'a, T> {
    At {
        located,
        object,
        origin,
    }
}

/// Creation time in nanoseconds since 1970; objects without one count as the youngest.
fn created(located: &Located) -> i128 {
    located
        .object
        .metadata()
        .and_then(|metadata| metadata.creation_timestamp.as_ref())
        .map_or(i128::MAX, |time| time.0.as_nanosecond())
}
