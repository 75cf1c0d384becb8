//! Sets are made again where something that they are made of is another, and nowhere else; the kernel
//! is told of these, and of the others only after it has refused something.

use std::cell::{Cell, RefCell};

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
    slice_of(number, &[endpoint])
}

fn slice_of(number: usize, endpoints: &[&str]) -> Arc<Located> {
    let endpoints = endpoints
        .iter()
        .map(|one| format!("{{addresses: [{one}]}}"));
    let endpoints = endpoints.collect::<Vec<_>>().join(", ");
    read(&format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: db-{number}, namespace: ns, labels: {{kubernetes.io/service-name: db-{number}}}}}\n\
         addressType: IPv4\nports: [{{port: 5432}}]\nendpoints: [{endpoints}]"
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

/// A kernel that is told something.
#[derive(Default)]
struct Heard {
    all: RefCell<HashMap<FrontendKey, Wanted>>,
    /// How many addresses it was told of the last time.
    told: Cell<usize>,
    refuses: Cell<bool>,
}

impl Heard {
    fn take(&self, some: &HashMap<FrontendKey, Wanted>) -> Result<ReconcileReport, Error> {
        self.told.set(some.len());
        if self.refuses.get() {
            let (name, max_entries) = ("SLOTS", 0);
            return Err(Error::MapFull { name, max_entries });
        }
        let some = some.iter().map(|(key, wanted)| (*key, wanted.clone()));
        self.all.borrow_mut().extend(some);
        Ok(ReconcileReport::default())
    }
}

impl Frontends for Heard {
    fn reconcile(&self, all: &HashMap<FrontendKey, Wanted>) -> Result<ReconcileReport, Error> {
        self.all.borrow_mut().clear();
        self.take(all)
    }

    fn renew(&self, some: &HashMap<FrontendKey, Wanted>) -> Result<ReconcileReport, Error> {
        self.take(some)
    }
}

/// Services with one endpoint each, and what the kernel is told of them.
struct World {
    services: Vec<Arc<Located>>,
    slices: Vec<Arc<Located>>,
    routes: Vec<Arc<Located>>,
    compiler: Compiler,
    steering: Steering,
    kernel: Heard,
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
            kernel: Heard::default(),
        }
    }

    fn compile(&mut self) -> Arc<Snapshot> {
        let mut set = ObjectSet::unsynced("test".into(), Origin::Files);
        let all = self.services.iter().chain(&self.slices);
        set.objects = all.chain(&self.routes).cloned().collect();
        let snapshot = self.compiler.compile(&[Arc::new(set)], &Options::default());
        assert_eq!(snapshot.problems[..], []);
        Arc::new(snapshot)
    }

    /// How many sets were looked at, and whether all are as they were.
    fn steer(&mut self) -> (usize, bool) {
        let snapshot = self.compile();
        let touched = self.steering.take_over(&snapshot);
        let looked_at = touched.len();
        let changed = self.steering.make_sets(touched, Instant::now(), false);
        self.is_as_made_at_once();
        (looked_at, changed.is_empty())
    }

    /// How many addresses the kernel was told of, and whether it took them.
    fn apply(&mut self) -> (usize, bool) {
        let snapshot = self.compile();
        self.kernel.told.set(0);
        let applied = self.steering.apply(&snapshot, &self.kernel).is_ok();
        if applied {
            assert_eq!(*self.kernel.all.borrow(), self.steering.wanted());
        }
        self.is_as_made_at_once();
        (self.kernel.told.get(), applied)
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

#[test]
fn the_kernel_is_told_of_the_addresses_whose_endpoints_have_changed() {
    let mut world = World::new();
    world.routes.push(route(1, [2, 3]));
    assert_eq!(world.apply(), (SERVICES, true), "all are new");
    assert_eq!(world.apply(), (0, true));
    world.slices[7] = slice(7, "10.0.0.7");
    assert_eq!(world.apply(), (1, true));
    world.slices[3] = slice(3, "10.0.0.3");
    assert_eq!(world.apply(), (2, true), "its own, and that of the route");
    world.routes.clear();
    assert_eq!(world.apply(), (1, true), "the route's alone");
    world.services.pop();
    assert_eq!(world.apply(), (SERVICES - 1, true), "listeners are others");
}

#[test]
fn what_the_kernel_has_refused_it_is_told_again_with_any_change_or_none() {
    let mut world = World::new();
    world.apply();
    world.kernel.refuses.set(true);
    world.slices[7] = slice(7, "10.0.0.7");
    assert_eq!(world.apply(), (1, false));
    world.slices[8] = slice(8, "10.0.0.8");
    assert_eq!(world.apply(), (SERVICES, false), "7 is not touched");
    world.kernel.refuses.set(false);
    assert_eq!(world.apply(), (SERVICES, true), "nothing is touched");
    world.slices[9] = slice(9, "10.0.0.9");
    assert_eq!(world.apply(), (1, true));
}

#[test]
fn of_two_services_with_an_address_the_owners_set_is_told() {
    let mut world = World::new();
    world.services.truncate(1);
    world.services.push(read(
        "apiVersion: v1\nkind: Service\nmetadata: {name: db-1, namespace: ns}\n\
         spec: {clusterIP: 10.96.0.2, externalIPs: [192.0.2.1], ports: [{port: 5432}]}",
    ));
    world.slices.truncate(2);
    assert_eq!(world.apply(), (3, true));
    world.slices[1] = slice(1, "10.0.0.7");
    assert_eq!(world.apply(), (2, true), "both of its addresses");
}

#[test]
fn an_endpoint_that_fails_has_the_sets_of_its_clusters_made_again() {
    let mut world = World::new();
    world.slices[7] = slice_of(7, &["10.0.0.7", "10.0.1.7", "10.0.2.7"]);
    world.routes.push(route(1, [7, 3]));
    world.apply();
    let failing = HashMap::from([("10.0.0.7:5432".parse().unwrap(), outlier::CONSECUTIVE)]);
    let now = Instant::now();
    let Steering { sets, health, .. } = &mut world.steering;
    assert!(health.observe(&failing, sets.clusters(), now));
    let touched = sets.touched(health.clusters());
    assert_eq!(touched.len(), 2, "its own, and that of the route");
    let changed = world.steering.make_sets(touched, now, true);
    assert_eq!(changed.len(), 2);
    assert_eq!((world.endpoints(7), world.endpoints(1)), (2, 3));
    assert_eq!(world.steering.ejections().all().len(), 1);
    world.services.remove(7);
    world.slices.remove(7);
    world.routes.clear();
    world.apply();
    assert_eq!(world.steering.ejections().all().len(), 0);
}
