//! A cluster to compile: for each Service one EndpointSlice of ten endpoints and one HTTPRoute,
//! and half as many pods, all read from an API server.

use std::sync::Arc;

use proxy_agent::objects::{Format, Located, ObjectSet, Objects, Origin, Part, parse};

/// Endpoints of each slice.
const ENDPOINTS: usize = 10;
/// Services of each namespace.
const NAMESPACE: usize = 100;
/// Objects of each part that sources hand out.
const PART: usize = 78;
/// Nodes that endpoints are on.
const NODES: usize = 1_000;

/// The objects; those that stay the same are the same `Arc` in every set.
pub(super) struct World {
    size: usize,
    objects: Vec<Arc<Located>>,
    /// The objects as sources hand them out, but for the parts that have changed.
    parts: Vec<Option<Part>>,
}

impl World {
    /// A cluster of `size` Services.
    pub(super) fn new(size: usize) -> Self {
        let kinds: [fn(usize, usize) -> String; 3] = [service, slice, route];
        let of_services = kinds
            .iter()
            .flat_map(|kind| (0..size).map(move |number| kind(number, 0)));
        let pods = (0..size / 2).map(|number| pod(number, 0));
        let objects: Vec<_> = of_services.chain(pods).map(|text| read(&text)).collect();
        let parts = vec![None; objects.len().div_ceil(PART)];
        Self {
            size,
            objects,
            parts,
        }
    }

    /// What a source would hand out now.
    pub(super) fn set(&mut self) -> Arc<ObjectSet> {
        let mut set = ObjectSet::unsynced("bench".into(), Origin::Cluster);
        set.synced = true;
        let parts = self.parts.iter_mut().zip(self.objects.chunks(PART));
        let parts = parts.map(|(part, objects)| {
            let part = part.get_or_insert_with(|| objects.into());
            Arc::clone(part)
        });
        set.objects = Objects::new(parts.collect());
        Arc::new(set)
    }

    pub(super) fn change_service(&mut self, round: usize) {
        let number = self.number(round, self.size);
        self.replace(number, &service(number, round + 1));
    }

    pub(super) fn change_slice(&mut self, round: usize) {
        let number = self.number(round, self.size);
        self.replace(self.size + number, &slice(number, round + 1));
    }

    pub(super) fn change_route(&mut self, round: usize) {
        let number = self.number(round, self.size);
        self.replace(2 * self.size + number, &route(number, round + 1));
    }

    pub(super) fn change_pod(&mut self, round: usize) {
        let number = self.number(round, self.size / 2);
        self.replace(3 * self.size + number, &pod(number, round + 1));
    }

    fn replace(&mut self, place: usize, text: &str) {
        self.objects[place] = read(text);
        self.parts[place / PART] = None;
    }

    /// Another one each round, spread over all.
    fn number(&self, round: usize, among: usize) -> usize {
        round.wrapping_mul(7_919) % among
    }
}

fn read(text: &str) -> Arc<Located> {
    let mut parsed = parse(text, &Arc::from("bench"), Format::Json);
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    Arc::new(parsed.objects.remove(0))
}

/// Name and namespace of a Service's objects.
fn metadata(number: usize, more: &str) -> String {
    let namespace = number / NAMESPACE;
    format!(r#""metadata": {{"name": "service-{number}", "namespace": "team-{namespace}"{more}}}"#)
}

fn service(number: usize, version: usize) -> String {
    let (high, low) = (number / 250, number % 250 + 1);
    let balance = if version % 2 == 1 {
        "round-robin"
    } else {
        "least-request"
    };
    let annotations = format!(r#", "annotations": {{"proxy-agent.io/balance": "{balance}"}}"#);
    format!(
        r#"{{"apiVersion": "v1", "kind": "Service", {}, "spec": {{"clusterIP": "10.96.{high}.{low}",
        "ports": [{{"name": "http", "port": 80, "targetPort": 8080}}]}}}}"#,
        metadata(number, &annotations)
    )
}

fn slice(number: usize, version: usize) -> String {
    let endpoint = |place: usize| {
        let pod = number * ENDPOINTS + place;
        // Versions differ in the first endpoint.
        let third = if place == 0 {
            version % 256
        } else {
            pod / 256 % 256
        };
        let (second, last, node) = (pod / 65_536 + 1, pod % 256, pod % NODES);
        format!(
            r#"{{"addresses": ["10.{second}.{third}.{last}"], "conditions": {{"ready": true, "serving": true, "terminating": false}},
            "nodeName": "node-{node}", "zone": "zone-{}",
            "targetRef": {{"kind": "Pod", "namespace": "team-{}", "name": "service-{number}-{pod:x}-abcde"}}}}"#,
            node % 3,
            number / NAMESPACE
        )
    };
    let endpoints: Vec<_> = (0..ENDPOINTS).map(endpoint).collect();
    let labels = format!(r#", "labels": {{"kubernetes.io/service-name": "service-{number}"}}"#);
    format!(
        r#"{{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", {}, "addressType": "IPv4",
        "endpoints": [{}], "ports": [{{"name": "http", "port": 8080, "protocol": "TCP"}}]}}"#,
        metadata(number, &labels),
        endpoints.join(",")
    )
}

fn route(number: usize, version: usize) -> String {
    format!(
        r#"{{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", {}, "spec": {{
        "parentRefs": [{{"group": "", "kind": "Service", "name": "service-{number}"}}],
        "rules": [{{"matches": [{{"path": {{"type": "PathPrefix", "value": "/v{version}"}}}}],
        "backendRefs": [{{"name": "service-{number}", "port": 80}}]}}]}}}}"#,
        metadata(number, "")
    )
}

fn pod(number: usize, version: usize) -> String {
    let more = format!(
        r#", "uid": "uid-{number}", "labels": {{"app": "service-{number}", "v": "{version}"}}"#
    );
    format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", {}, "spec": {{"nodeName": "node-{}", "containers": [{{"name": "c"}}]}},
        "status": {{"podIP": "10.200.{}.{}", "conditions": [{{"type": "Ready", "status": "True"}}]}}}}"#,
        metadata(number, &more),
        number % 2,
        number / 250,
        number % 250
    )
}
