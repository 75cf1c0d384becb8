//! Frontends against maps in memory, which check at each write what must hold at all times: no
//! frontend names a set that is not whole.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use proxy_ebpf::EndpointKey;

use super::*;
use crate::bpf::sets::GRACE;

/// What stands in for the kernel's maps.
#[derive(Debug, Default)]
struct Maps {
    frontends: RefCell<HashMap<FrontendKey, Frontend>>,
    sets: RefCell<HashMap<u32, DirectSet>>,
    /// Frontends that are refused.
    refused: RefCell<BTreeSet<FrontendKey>>,
    /// Sets are refused.
    full: Cell<bool>,
    /// Frontends and sets that were written or tried.
    writes: Cell<usize>,
}

const FULL: Error = Error::MapFull {
    name: map::SLOTS,
    max_entries: 0,
};

impl Maps {
    fn named(&self) -> BTreeSet<u32> {
        let frontends = self.frontends.borrow();
        let direct = frontends.values().filter(|one| one.is_direct());
        direct.map(Frontend::set).collect()
    }

    fn written(&self) -> BTreeSet<u32> {
        self.sets.borrow().keys().copied().collect()
    }

    /// What a frontend leads to.
    fn read(&self, key: &FrontendKey) -> Option<Wanted> {
        let frontends = self.frontends.borrow();
        Some(match frontends.get(key)?.verdict() {
            Verdict::Pass => Wanted::Pass,
            Verdict::Proxy => Wanted::Proxy,
            Verdict::Direct(direct) => {
                let set = self.sets.borrow()[&direct.set].clone();
                Wanted::Direct(Arc::new(set))
            }
        })
    }

    fn hold(&self, wanted: &HashMap<FrontendKey, Wanted>) -> bool {
        let as_wanted = |(key, wanted)| self.read(key).as_ref() == Some(wanted);
        self.frontends.borrow().len() == wanted.len() && wanted.iter().all(as_wanted)
    }

    fn count(&self) {
        self.writes.set(self.writes.get() + 1);
    }
}

impl FrontendMaps for Maps {
    fn set_frontend(&self, key: &FrontendKey, value: &Frontend) -> Result<(), Error> {
        self.count();
        if self.refused.borrow().contains(key) {
            return Err(FULL);
        }
        if let Verdict::Direct(direct) = value.verdict() {
            let whole = self.sets.borrow()[&direct.set].count();
            assert_eq!(direct.count, whole, "the set stands before it is named");
        }
        self.frontends.borrow_mut().insert(*key, *value);
        Ok(())
    }

    fn remove_frontend(&self, key: &FrontendKey) -> Result<(), Error> {
        if self.refused.borrow().contains(key) {
            return Err(FULL);
        }
        self.frontends.borrow_mut().remove(key);
        Ok(())
    }
}

impl SetMaps for Maps {
    fn write(&self, number: u32, set: &DirectSet) -> Result<(), Error> {
        self.count();
        if self.full.get() {
            return Err(FULL);
        }
        let former = self.sets.borrow_mut().insert(number, set.clone());
        assert_eq!(former, None, "a set is never changed");
        Ok(())
    }

    fn erase(&self, number: u32, _set: &DirectSet) -> Result<(), Error> {
        assert!(!self.named().contains(&number), "a set stays while named");
        self.sets.borrow_mut().remove(&number);
        Ok(())
    }
}

fn key(number: u16) -> FrontendKey {
    FrontendKey::from_socket_addr(SocketAddr::from(([10, 96, 0, 1], number)))
}

fn direct(endpoints: u8) -> Wanted {
    let endpoint = |last| EndpointKey::from_socket_addr(SocketAddr::from(([10, 0, 0, last], 80)));
    Wanted::Direct(Arc::new(DirectSet {
        endpoints: (0..endpoints).map(endpoint).collect(),
        ..DirectSet::default()
    }))
}

/// Frontends as they are written, and what they are to be.
#[derive(Debug, Default)]
struct World {
    maps: Maps,
    frontends: Frontends,
    wanted: HashMap<FrontendKey, Wanted>,
}

impl World {
    fn of(wanted: HashMap<FrontendKey, Wanted>) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    fn reconcile(&mut self) -> Result<ReconcileReport, Error> {
        self.frontends.reconcile(&self.maps, &self.wanted)
    }

    /// Changes one frontend, and tells of it alone.
    fn renew(&mut self, number: u16, wanted: &Wanted) -> Result<ReconcileReport, Error> {
        self.wanted.insert(key(number), wanted.clone());
        let some = HashMap::from([(key(number), wanted.clone())]);
        self.frontends.renew(&self.maps, &some)
    }

    fn let_grace_pass(&mut self) {
        let later = Instant::now() + GRACE;
        self.frontends.sets.erase_retired(&self.maps, later);
    }
}

#[test]
fn a_change_of_one_among_many_writes_one() {
    let all = (0..10_000).map(|number| (key(number), direct(2)));
    let mut world = World::of(all.collect());
    world.reconcile().unwrap();
    world.maps.writes.set(0);
    let report = world.renew(7, &direct(3)).unwrap();
    let expected = ReconcileReport {
        updated: 1,
        sets: 1,
        ..ReconcileReport::default()
    };
    assert_eq!(report, expected);
    assert_eq!(world.maps.writes.get(), 2, "the set and the frontend");
    assert!(world.maps.hold(&world.wanted));
    assert_eq!(world.maps.written().len(), 10_001, "not yet");
    world.let_grace_pass();
    assert_eq!(world.maps.written(), world.maps.named());
}

#[test]
fn a_set_stays_until_the_last_of_its_frontends_has_let_go() {
    let shared = direct(2);
    let both = [(key(1), shared.clone()), (key(2), shared)];
    let mut world = World::of(HashMap::from(both));
    assert_eq!(world.reconcile().unwrap().sets, 1);
    world.renew(1, &Wanted::Proxy).unwrap();
    world.let_grace_pass();
    assert_eq!(world.maps.written().len(), 1);
    world.wanted.remove(&key(2));
    assert_eq!(world.reconcile().unwrap().removed, 1);
    world.let_grace_pass();
    assert_eq!(world.maps.written().len(), 0);
}

#[test]
fn a_frontend_that_cannot_be_written_keeps_its_set_and_is_tried_again() {
    let former = direct(2);
    let both = [(key(1), former.clone()), (key(2), direct(2))];
    let mut world = World::of(HashMap::from(both));
    world.reconcile().unwrap();
    world.maps.refused.borrow_mut().insert(key(1));
    world.renew(1, &direct(3)).unwrap_err();
    world.let_grace_pass();
    assert_eq!(world.maps.read(&key(1)), Some(former));
    world.renew(2, &direct(4)).unwrap();
    world.reconcile().unwrap_err();
    world.maps.refused.borrow_mut().clear();
    let report = world.reconcile().unwrap();
    assert_eq!((report.updated, report.sets), (1, 0), "the set was there");
    assert!(world.maps.hold(&world.wanted));
    world.let_grace_pass();
    assert_eq!(world.maps.written(), world.maps.named());
}

#[test]
fn a_frontend_whose_set_has_no_room_is_proxied_until_it_has() {
    let mut world = World::of(HashMap::from([(key(1), direct(2))]));
    world.reconcile().unwrap();
    world.maps.full.set(true);
    world.renew(1, &direct(3)).unwrap_err();
    assert_eq!(world.maps.read(&key(1)), Some(Wanted::Proxy));
    world.let_grace_pass();
    assert_eq!(world.maps.written().len(), 0, "for room");
    world.maps.full.set(false);
    world.reconcile().unwrap();
    assert!(world.maps.hold(&world.wanted));
}

proptest! {
    #[test]
    fn whatever_is_refused_all_is_as_wanted_in_the_end_and_nothing_is_left_over(
        steps in prop::collection::vec((0_u16..4, 0_u8..5, any::<bool>(), any::<bool>()), 0..40),
    ) {
        let mut world = World::default();
        for (number, what, refused, full) in steps {
            world.maps.refused.borrow_mut().extend(refused.then(|| key(number)));
            world.maps.full.set(full);
            // What is refused is no matter here.
            let _ = match what {
                0 => world.renew(number, &Wanted::Pass),
                1 => world.renew(number, &Wanted::Proxy),
                2 => world.renew(number, &direct(2)),
                3 => world.reconcile(),
                _ => {
                    world.wanted.remove(&key(number));
                    world.reconcile()
                }
            };
            world.let_grace_pass();
            world.maps.refused.borrow_mut().clear();
        }
        world.maps.full.set(false);
        world.reconcile().unwrap();
        world.let_grace_pass();
        prop_assert!(world.maps.hold(&world.wanted));
        prop_assert_eq!(world.maps.written(), world.maps.named());
    }
}
