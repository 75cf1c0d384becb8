//! Sets are made again where something that they are made of is another, and nowhere else.

use super::*;
use crate::compile::{Compiler, Options};
use crate::objects::{Format, Located, ObjectSet, Origin, parse};

const SERVICES: usize = 300;

fn read(text: &str) -> Arc<Located> {
    let mut parsed = parse(text, &Arc::from("t.yaml"), Format::Yaml);
    assert_eq!(parsed.problems, []);
    Arc::new(parsed.objects.remove(0))
}

fn service(number: usize, port: u16) -> Arc<Located> {
    let (high, low) = (number / 250, number % 250 + 1);
    read(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db-{number}, namespace: ns}}\n\
         spec: {{clusterIP: 10.96.{high}.{low}, ports: [{{port: {port}}}]}}"
    ))
}

fn slice(number: usize, endpoint: &str) -> Arc<Located> {
    read(&format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: db-{number}, namespace: ns, labels: {{kubernetes.io/service-name: db-{number}}}}}\n\
         addressType: IPv4\nports: [{{port: 5432}}]\nendpoints: [{{addresses: [{endpoint}]}}]"
    ))
}

/// Shares out the connections to `of` to two others.
fn route(of: usize, to: [usize; 2]) -> Arc<Located> {
    let to = to.map(|number| format!("{{name: db-{number}, port: 5432}}"));
    read(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\n\
         metadata: {{name: split, namespace: ns}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: db-{of}}}], rules: [{{backendRefs: [{}]}}]}}",
        to.join(", ")
    ))
}

/// Services with one endpoint each, and what the kernel would be told of them.
struct World {
    services: Vec<Arc<Located>>,
    slices: Vec<Arc<Located>>,
    routes: Vec<Arc<Located>>,
    compiler: Compiler,
    steering: Steering,
}

impl World {
    fn new() -> Self {
        let (gone, _told) = Gone::channel();
        Self {
            services: (0..SERVICES).map(|number| service(number, 5432)).collect(),
            slices: (0..SERVICES)
                .map(|number| slice(number, "10.0.0.1"))
                .collect(),
            routes: Vec::new(),
            compiler: Compiler::default(),
            steering: Steering::new(gone),
        }
    }

    /// How many sets were looked at, and whether all are as they were.
    fn steer(&mut self) -> (usize, bool) {
        let mut set = ObjectSet::unsynced("test".into(), Origin::Files);
        let all = self.services.iter().chain(&self.slices);
        set.objects = all.chain(&self.routes).cloned().collect();
        let snapshot = self.compiler.compile(&[Arc::new(set)], &Options::default());
        assert_eq!(snapshot.problems[..], []);
        let touched = self.steering.take_over(&Arc::new(snapshot));
        let looked_at = touched.len();
        let same = self.steering.make_sets(touched, Instant::now(), false);
        self.is_as_made_at_once();
        (looked_at, same)
    }

    /// What is kept never shows.
    fn is_as_made_at_once(&self) {
        let (gone, _told) = Gone::channel();
        let mut other = Steering::new(gone);
        let touched = other.take_over(&self.steering.snapshot);
        other.make_sets(touched, Instant::now(), false);
        assert_eq!(self.steering.wanted(), other.wanted());
    }

    fn endpoints(&self, number: usize) -> usize {
        let listeners = self.steering.snapshot.listeners.iter();
        let name = format!("db-{number}");
        let mut found = listeners.filter(|one| *one.service == *name);
        let key = (found.next().unwrap().cluster, Family::V4);
        self.steering.sets.made(key).unwrap().set.endpoints.len()
    }
}

#[test]
fn a_change_of_endpoints_looks_at_the_sets_that_are_made_of_them() {
    let mut world = World::new();
    assert_eq!(world.steer(), (SERVICES, false), "all are new");
    assert_eq!(world.steer(), (0, true));
    world.slices[7] = slice(7, "10.0.0.7");
    world.slices[290] = slice(290, "10.0.0.7");
    assert_eq!(world.steer(), (2, false));
    world.services[7] = service(7, 5433);
    assert_eq!(world.steer(), (SERVICES, false), "listeners are others");
}

#[test]
fn a_set_is_made_of_the_clusters_that_a_route_shares_connections_out_to() {
    let mut world = World::new();
    world.routes.push(route(1, [2, 3]));
    world.steer();
    assert_eq!((world.endpoints(0), world.endpoints(1)), (1, 2));
    world.slices[3] = slice(3, "10.0.0.3, 10.0.1.3");
    assert_eq!(world.steer(), (2, false), "its own, and that of the route");
    world.slices[4] = slice(4, "10.0.0.4");
    assert_eq!(world.steer(), (1, false));
    world.routes.clear();
    world.steer();
    assert_eq!(world.endpoints(1), 1);
    world.slices[3] = slice(3, "10.0.0.5");
    assert_eq!(world.steer(), (1, false), "nothing is shared out any more");
}

#[test]
fn a_service_that_goes_takes_its_set_along() {
    let mut world = World::new();
    world.steer();
    world.services.pop();
    world.steer();
    assert_eq!(world.steering.sets.all().len(), SERVICES - 1);
    world.slices.pop();
    assert_eq!(world.steer(), (0, true), "of no Service");
}
