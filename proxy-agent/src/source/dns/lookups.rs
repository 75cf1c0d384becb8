//! Which name is asked for when, and what is known of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Answer, Names, RETRY, SOURCE};
use crate::model::{Place, Problem, Severity};
use crate::objects::{Located, ObjectSet, Resolution};

/// An answer holds at least this long, whatever its records say: some say 0.
const FLOOR: Duration = Duration::from_secs(5);
/// An answer holds at most this long: a name that moves is followed within minutes.
const CEILING: Duration = Duration::from_secs(300);
/// Names that are resolved; more are named as a problem.
const MAX_NAMES: usize = 1_000;
/// Addresses of one name.
const MAX_ADDRESSES: usize = 64;
/// Names that are asked for at a time.
const AT_A_TIME: usize = 16;

/// What is known of a name.
#[derive(Debug)]
struct Known {
    due: Instant,
    asked: bool,
    located: Option<Arc<Located>>,
    failure: Option<String>,
}

/// Names, and when each is asked for again.
#[derive(Debug)]
pub(super) struct Lookups {
    names: watch::Receiver<Names>,
    sets: watch::Sender<Arc<ObjectSet>>,
    known: BTreeMap<Arc<str>, Known>,
    left_out: usize,
    changed: bool,
}

impl Lookups {
    pub(super) fn new(names: watch::Receiver<Names>, sets: watch::Sender<Arc<ObjectSet>>) -> Self {
        Self {
            names,
            sets,
            known: BTreeMap::new(),
            left_out: 0,
            changed: false,
        }
    }

    /// Keeps every name resolved until nobody names anything any more.
    pub(super) async fn follow<F, A>(mut self, ask: F)
    where
        F: Fn(Arc<str>) -> A,
        A: Future<Output = Result<Answer, String>> + Send + 'static,
    {
        let mut asking = JoinSet::new();
        loop {
            self.take_names();
            let now = Instant::now();
            for (name, one) in &mut self.known {
                if asking.len() < AT_A_TIME && !one.asked && one.due <= now {
                    one.asked = true;
                    let (name, answer) = (Arc::clone(name), ask(Arc::clone(name)));
                    asking.spawn(async move { (name, answer.await) });
                }
            }
            self.publish();
            let waiting = self.known.values().filter(|one| !one.asked);
            let next = waiting.map(|one| one.due).min();
            // With all hands full, the next one waits for a hand.
            let next = next.filter(|_| asking.len() < AT_A_TIME);
            tokio::select! {
                changed = self.names.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(answered) = asking.join_next() => match answered {
                    Ok((name, answer)) => self.take(&name, answer),
                    Err(error) => tracing::error!(%error, "a lookup ended without an answer"),
                },
                () = sleep_until(next.unwrap_or(now + CEILING)) => {}
            }
        }
    }

    /// Begins with new names and forgets those that are gone.
    fn take_names(&mut self) {
        let names = Arc::clone(&self.names.borrow_and_update());
        let wanted = &names[..names.len().min(MAX_NAMES)];
        let before = self.known.len();
        self.known
            .retain(|name, _| wanted.binary_search(name).is_ok());
        self.changed |= self.known.len() != before;
        self.changed |= self.left_out != names.len() - wanted.len();
        self.left_out = names.len() - wanted.len();
        for name in wanted {
            self.known.entry(Arc::clone(name)).or_insert_with(|| Known {
                due: Instant::now(),
                asked: false,
                located: None,
                failure: None,
            });
        }
    }

    fn take(&mut self, name: &Arc<str>, answer: Result<Answer, String>) {
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        known.asked = false;
        let failure = match answer {
            Err(failure) => {
                known.due = Instant::now() + RETRY;
                Some(failure)
            }
            Ok(mut answer) => {
                known.due = Instant::now() + answer.ttl.clamp(FLOOR, CEILING);
                answer.addresses.sort_unstable();
                answer.addresses.dedup();
                answer.addresses.truncate(MAX_ADDRESSES);
                let present = Resolution::located(name, place(), answer.addresses);
                if known.located.as_deref() != Some(&present) {
                    known.located = Some(Arc::new(present));
                    self.changed = true;
                }
                None
            }
        };
        self.changed |= known.failure != failure;
        known.failure = failure;
    }

    fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let mut set = ObjectSet::clone(&self.sets.borrow());
        let known = self.known.values();
        set.objects = known.filter_map(|one| one.located.clone()).collect();
        let failed = self.known.iter();
        let failed =
            failed.filter_map(|(name, one)| Some(failed_lookup(name, one.failure.as_ref()?)));
        set.problems = failed.chain(self.too_many()).collect();
        set.trouble = String::new();
        set.changed = SystemTime::now();
        self.sets.send_replace(Arc::new(set));
    }

    fn too_many(&self) -> Option<Problem> {
        let count = self.left_out;
        let reason = format!("{count} names beyond the first {MAX_NAMES} are not resolved");
        (count > 0).then(|| problem(Severity::Error, reason))
    }
}

fn failed_lookup(name: &str, failure: &str) -> Problem {
    let reason =
        format!("`{name}` cannot be resolved, what was known of it stays in force: {failure}");
    problem(Severity::Warning, reason)
}

fn problem(severity: Severity, reason: String) -> Problem {
    Problem {
        severity,
        place: Some(place()),
        object: None,
        field: String::new(),
        reason,
    }
}

fn place() -> Place {
    Place {
        source: SOURCE.into(),
        line: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Mutex;

    use super::*;
    use crate::objects::{Object, Origin};

    type Script = Arc<Mutex<Vec<(String, Result<Answer, String>)>>>;

    fn answer(addresses: &[&str], ttl: u64) -> Result<Answer, String> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        Ok(Answer {
            addresses: addresses.collect(),
            ttl: Duration::from_secs(ttl),
        })
    }

    struct Scene {
        names: watch::Sender<Names>,
        sets: watch::Receiver<Arc<ObjectSet>>,
        script: Script,
        begun: Instant,
    }

    impl Scene {
        /// Answers come from the script, in its order for each name; then none come.
        fn new(names: &[&str], script: Vec<(&str, Result<Answer, String>)>) -> Self {
            let script = script.into_iter().map(|(name, one)| (name.to_owned(), one));
            let script: Script = Arc::new(Mutex::new(script.collect()));
            let names = names.iter().map(|name| Arc::from(*name)).collect();
            let (names, wanted) = watch::channel(names);
            let nothing = ObjectSet::unsynced("dns".into(), Origin::Cluster);
            let sets = watch::Sender::new(Arc::new(nothing));
            let seen = sets.subscribe();
            let lookups = Lookups::new(wanted, sets);
            let answers = Arc::clone(&script);
            tokio::spawn(lookups.follow(move |name| {
                let mut script = answers.lock().unwrap();
                let place = script.iter().position(|(of, _)| **of == *name);
                let answer = place.map(|place| script.remove(place).1);
                async move {
                    match answer {
                        Some(answer) => answer,
                        None => std::future::pending().await,
                    }
                }
            }));
            Self {
                names,
                sets: seen,
                script,
                begun: Instant::now(),
            }
        }

        /// The next state: addresses of every name, problems, and seconds since the begin.
        async fn next(&mut self) -> (String, Vec<String>, u64) {
            self.sets.changed().await.unwrap();
            let set = Arc::clone(&self.sets.borrow_and_update());
            let words = set.objects.iter().map(|one| {
                let Object::Resolution(found) = &one.object else {
                    panic!("{one:?}");
                };
                let addresses = found.addresses.iter().map(IpAddr::to_string);
                let addresses = addresses.collect::<Vec<_>>().join(",");
                format!("{}={addresses}", one.id.name)
            });
            let problems = set.problems.iter().map(ToString::to_string).collect();
            let words = words.collect::<Vec<_>>().join(" ");
            (words, problems, self.begun.elapsed().as_secs())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_for_again_when_its_answer_expires_within_bounds() {
        let script = vec![
            ("a", answer(&["10.0.0.2", "10.0.0.1", "10.0.0.1"], 20)),
            ("a", answer(&["10.0.0.3"], 0)),
            ("a", answer(&["10.0.0.4"], 86_400)),
            ("a", answer(&["10.0.0.5"], 60)),
        ];
        let mut scene = Scene::new(&["a"], script);
        for (expected, at) in [
            ("a=10.0.0.1,10.0.0.2", 0),
            ("a=10.0.0.3", 20),
            ("a=10.0.0.4", 25),
            ("a=10.0.0.5", 325),
        ] {
            let (words, problems, seconds) = scene.next().await;
            assert_eq!((&*words, seconds), (expected, at));
            assert!(problems.is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_keeps_its_last_addresses_and_is_named() {
        let script = vec![
            ("a", answer(&["10.0.0.1"], 10)),
            ("a", Err("no answer".to_owned())),
            ("a", Err("no answer".to_owned())),
            ("a", answer(&["10.0.0.1"], 10)),
        ];
        let mut scene = Scene::new(&["a"], script);
        assert_eq!(scene.next().await.0, "a=10.0.0.1");
        let (words, problems, seconds) = scene.next().await;
        assert_eq!((&*words, seconds), ("a=10.0.0.1", 10));
        assert!(
            problems[0].contains("`a` cannot be resolved"),
            "{problems:?}"
        );
        let (words, problems, seconds) = scene.next().await;
        assert_eq!((&*words, problems.len(), seconds), ("a=10.0.0.1", 0, 20));
        assert!(scene.script.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn names_come_and_go_and_a_silent_one_holds_up_no_other() {
        let script = vec![("b", answer(&["10.0.0.2"], 60))];
        let mut scene = Scene::new(&["a"], script);
        scene.names.send_replace(["a".into(), "b".into()].into());
        assert_eq!(scene.next().await.0, "b=10.0.0.2", "a was never answered");
        scene.names.send_replace(["a".into()].into());
        assert_eq!(scene.next().await.0, "");
    }

    #[tokio::test(start_paused = true)]
    async fn names_beyond_the_bound_are_named() {
        let mut scene = Scene::new(&["a"], Vec::new());
        let many = (0..=MAX_NAMES).map(|n| Arc::from(format!("n{n:05}")));
        scene.names.send_replace(many.collect());
        let (_, problems, _) = scene.next().await;
        assert!(
            problems[0].contains("1 names beyond the first 1000"),
            "{problems:?}"
        );
    }
}
