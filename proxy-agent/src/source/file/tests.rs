//! The faults of a directory, each with what it leaves in force.

mod other_names;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch::Receiver;

use super::contents::Contents;
use super::signals::Changes;
use super::{FileSource, read, watch};
use crate::objects::ObjectSet;

/// A directory of its own, removed on drop.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("proxy-agent-file-source-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), text).expect("a file");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).expect("a file to remove");
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0)); // one test has removed it already
    }
}

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\n")
}

fn names(set: &ObjectSet) -> Vec<&str> {
    set.objects.iter().map(|one| &*one.id.name).collect()
}

/// Problems, the directory's path cut away.
fn lines(set: &ObjectSet, dir: &Dir) -> Vec<String> {
    let path = format!("{}/", dir.0.display());
    let lines = set
        .problems
        .iter()
        .map(|one| one.to_string().replace(&path, ""));
    lines.collect()
}

/// Looks at everything, as after a change.
fn look(contents: &mut Contents) -> ObjectSet {
    contents.update(&Changes::everything());
    contents.set()
}

#[test]
fn manifests_are_read_and_nothing_else() {
    let dir = Dir::new();
    for name in ["a.yaml", "b.yml", ".hidden.yaml", "note.txt", "d.yaml.swp"] {
        dir.write(name, namespace(&name.replace('.', "-")));
    }
    dir.write(
        "c.json",
        r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "c"}}"#,
    );
    // What kubectl says of a kind without objects: no problem.
    dir.write("f.yaml", "apiVersion: v1\nkind: List\nitems: []\n");
    fs::create_dir(dir.0.join("e.yaml")).expect("a directory");
    let set = read(&dir.0);
    assert_eq!(names(&set), ["a-yaml", "b-yml", "c"]);
    assert_eq!(lines(&set, &dir), Vec::<String>::new());
    assert_eq!(
        names(&read(&dir.0.join("note.txt"))),
        ["note-txt"],
        "named by the user"
    );
}

#[test]
fn a_file_that_was_touched_is_no_news() {
    let dir = Dir::new();
    dir.write("a.yaml", namespace("a"));
    let mut contents = Contents::new(&dir.0);
    let everything = Changes::everything();
    assert!(contents.update(&everything));
    dir.write("a.yaml", namespace("a"));
    assert!(!contents.update(&everything));
    dir.write("a.yaml", namespace("b"));
    assert!(contents.update(&everything));
}

#[test]
fn a_path_that_is_not_there_is_a_problem() {
    let dir = Dir::new();
    let set = read(&dir.0.join("gone.yaml"));
    assert_eq!(lines(&set, &dir), ["gone.yaml: no such file or directory"]);
}

#[test]
fn each_fault_is_one_line_and_leaves_the_last_good_version_in_force() {
    let good = namespace("one") + &namespace("two");
    let mut truncated = good.clone();
    truncated.truncate(good.len() - 10);
    let large = format!("# {}\n", "x".repeat(9 << 20));
    for (text, kept, line) in [
        (
            b"\xff\xfe".to_vec(),
            2,
            "a.yaml: is not UTF-8: byte 0 is not part of a character; what it held before stays in force",
        ),
        (
            large.into_bytes(),
            2,
            "a.yaml: 9437187 bytes; accepted: up to 8388608; what it held before stays in force",
        ),
        (truncated.into_bytes(), 2, "a.yaml:5: "),
        (b"kind: [".to_vec(), 2, "a.yaml:1: "),
        (b"# nothing\n---\n".to_vec(), 0, "a.yaml: holds no object"),
        (Vec::new(), 0, "a.yaml: holds no object"),
    ] {
        let dir = Dir::new();
        dir.write("a.yaml", &good);
        dir.write("b.yaml", namespace("other"));
        let mut contents = Contents::new(&dir.0);
        assert_eq!(names(&look(&mut contents)), ["one", "two", "other"]);
        dir.write("a.yaml", &text);
        let set = look(&mut contents);
        assert_eq!(set.objects.len(), kept + 1, "{line}");
        let [found] = &lines(&set, &dir)[..] else {
            panic!("one line expected: {:?}", set.problems);
        };
        assert!(found.starts_with(line), "{found}");
        assert_eq!(found.ends_with("in force"), kept > 0, "{found}");
        dir.write("a.yaml", &good);
        assert_eq!(
            lines(&look(&mut contents), &dir),
            Vec::<String>::new(),
            "it heals"
        );
    }
}

#[test]
fn a_rejected_object_keeps_its_last_good_version_and_others_may_go() {
    let service = |port: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n"
        )
    };
    let dir = Dir::new();
    dir.write("a.yaml", service("80") + &namespace("gone"));
    let mut contents = Contents::new(&dir.0);
    look(&mut contents);
    dir.write("a.yaml", service("eighty") + &namespace("new"));
    let set = look(&mut contents);
    assert_eq!(
        names(&set),
        ["new", "web"],
        "which object was malformed is known"
    );
    assert_eq!(
        lines(&set, &dir),
        [
            "a.yaml:1: Service default/web: spec.ports[0].port: invalid type: string \"eighty\", \
          expected a whole number; its last good version stays in force"
        ]
    );
}

#[test]
fn of_duplicates_the_first_by_file_name_counts() {
    let dir = Dir::new();
    dir.write("b.yaml", namespace("one"));
    dir.write("a.yaml", format!("# first\n{}", namespace("one")));
    let set = read(&dir.0);
    assert_eq!(
        set.objects
            .iter()
            .next()
            .expect("an object")
            .place
            .to_string(),
        dir.0.join("a.yaml:2").display().to_string()
    );
    assert_eq!(
        lines(&set, &dir),
        ["b.yaml:1: Namespace one: stands at a.yaml:2 too, which is in force"]
    );
}

/// Compilation goes by it: what a change of one file costs does not grow with the number of the others.
#[test]
fn a_change_of_one_file_shares_the_objects_of_the_others() {
    let dir = Dir::new();
    for name in ["a", "b", "c"] {
        dir.write(&format!("{name}.yaml"), namespace(name));
    }
    let mut contents = Contents::new(&dir.0);
    contents.update(&Changes::everything());
    let before = contents.set();
    dir.write("b.yaml", namespace("b").repeat(2) + &namespace("d"));
    contents.update(&Changes::everything());
    let twice = contents.set();
    assert_eq!(names(&twice), ["a", "b", "d", "c"], "b stands in it twice");
    dir.write("b.yaml", namespace("b") + &namespace("d"));
    contents.update(&Changes::everything());
    let after = contents.set();
    let others = after.objects.not_shared_with(&before.objects);
    let others: Vec<_> = others.iter().map(|one| &*one.id.name).collect();
    assert_eq!((others, names(&after).len()), (vec!["b", "d"], 4));
    dir.remove("b.yaml");
    contents.update(&Changes::everything());
    assert_eq!(names(&contents.set()), ["a", "c"]);
}

#[test]
fn more_files_than_accepted_are_one_problem() {
    let dir = Dir::new();
    for number in 0..1_002 {
        dir.write(
            &format!("{number:04}.yaml"),
            namespace(&format!("n{number}")),
        );
    }
    let set = read(&dir.0);
    assert_eq!(set.objects.len(), 1_000);
    assert_eq!(set.problems.len(), 1);
    assert!(
        set.problems[0].reason.contains("`1000.yaml`"),
        "{}",
        set.problems[0]
    );
}

/// A watched directory and the runtime that serves it.
struct Live {
    dir: Dir,
    sets: Receiver<Arc<ObjectSet>>,
    runtime: tokio::runtime::Runtime,
}

impl Live {
    fn start(dir: Dir) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let source: FileSource = watch(dir.0.clone()).expect("a source");
        let sets = source.sets();
        runtime.spawn(source.run());
        Self { dir, sets, runtime }
    }

    /// Waits until the set is as expected; returns how long that took.
    fn until(&mut self, what: &str, expected: impl Fn(&ObjectSet) -> bool) -> Duration {
        let start = Instant::now();
        let wait = self.sets.wait_for(|set| expected(set));
        let waited = self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(10), wait)
                .await
                .map(drop)
        });
        assert!(waited.is_ok(), "{what}: {:?}", self.sets.borrow());
        start.elapsed()
    }
}

#[test]
fn changes_are_noticed_within_200_ms() {
    let dir = Dir::new();
    dir.write("a.yaml", namespace("a"));
    let mut live = Live::start(dir);
    live.until("first", |set| names(set) == ["a"]);
    live.dir.write("b.yaml", namespace("b"));
    let mut waits = vec![live.until("create", |set| names(set) == ["a", "b"])];
    live.dir.write("a.yaml", namespace("c"));
    waits.push(live.until("rewrite", |set| names(set) == ["c", "b"]));
    live.dir.write(".tmp", namespace("d"));
    fs::rename(live.dir.0.join(".tmp"), live.dir.0.join("b.yaml")).expect("a rename");
    waits.push(live.until("rename", |set| names(set) == ["c", "d"]));
    live.dir.remove("a.yaml");
    waits.push(live.until("remove", |set| names(set) == ["d"]));
    // The machine may be busy; one of four on time shows that nothing waits for a longer timer.
    assert!(
        waits.iter().min() < Some(&Duration::from_millis(200)),
        "{waits:?}"
    );
}

#[test]
fn a_file_that_is_still_being_written_is_not_read() {
    use std::io::Write;
    let dir = Dir::new();
    dir.write("a.yaml", namespace("a") + &namespace("b"));
    let mut live = Live::start(dir);
    let mut half = fs::File::create(live.dir.0.join("a.yaml")).expect("a file");
    half.write_all(namespace("a").as_bytes()).expect("a write");
    // Another file's change is read meanwhile, and shows that the reader has looked.
    live.dir.write("z.yaml", namespace("z"));
    live.until("other", |set| names(set).contains(&"z"));
    assert_eq!(names(&live.sets.borrow()), ["a", "b", "z"]);
    half.write_all(namespace("c").as_bytes()).expect("a write");
    drop(half);
    live.until("whole", |set| names(set) == ["a", "c", "z"]);
}

#[test]
fn a_file_that_an_editor_moves_away_and_writes_anew_is_never_missed() {
    let dir = Dir::new();
    dir.write("a.yaml", namespace("old"));
    let mut live = Live::start(dir);
    let path = live.dir.0.join("a.yaml");
    let mut sets = live.sets.clone();
    sets.mark_unchanged();
    let seen = live
        .runtime
        .spawn(async move { sets.changed().await.map(|()| sets.borrow().objects.len()) });
    fs::rename(&path, live.dir.0.join("a.yaml~")).expect("a rename");
    std::thread::sleep(Duration::from_millis(20)); // an editor's time between the two
    live.dir.write("a.yaml", namespace("new"));
    live.until("new", |set| names(set) == ["new"]);
    let first = live.runtime.block_on(seen).expect("a task").expect("a set");
    assert_eq!(
        first, 1,
        "the first set after the rename has the new object"
    );
}

#[test]
fn a_config_map_volumes_swap_is_noticed() {
    let dir = Dir::new();
    for (version, name) in [("..1", "old"), ("..2", "new")] {
        fs::create_dir(dir.0.join(version)).expect("a directory");
        dir.write(&format!("{version}/a.yaml"), namespace(name));
    }
    symlink("..1", dir.0.join("..data")).expect("a link");
    symlink("..data/a.yaml", dir.0.join("a.yaml")).expect("a link");
    let mut live = Live::start(dir);
    live.until("old", |set| names(set) == ["old"]);
    symlink("..2", live.dir.0.join("..data_tmp")).expect("a link");
    fs::rename(live.dir.0.join("..data_tmp"), live.dir.0.join("..data")).expect("a swap");
    live.until("new", |set| names(set) == ["new"]);
}

#[test]
fn a_deleted_directory_leaves_its_last_state_until_it_is_back() {
    let dir = Dir::new();
    dir.write("a.yaml", namespace("a"));
    let mut live = Live::start(dir);
    fs::remove_dir_all(&live.dir.0).expect("a directory to remove");
    live.until("gone", |set| {
        set.trouble.starts_with("the directory is gone")
    });
    assert_eq!(names(&live.sets.borrow()), ["a"]);
    fs::create_dir(&live.dir.0).expect("a directory");
    live.dir.write("b.yaml", namespace("b"));
    live.until("back", |set| names(set) == ["b"] && set.trouble.is_empty());
    live.dir.write("c.yaml", namespace("c"));
    live.until("watched", |set| names(set) == ["b", "c"]);
}

#[test]
fn what_cannot_be_watched_says_what_is_needed() {
    let dir = Dir::new();
    dir.write("a.yaml", "");
    for (path, expected) in [
        (
            "gone",
            "gone; --source file:DIR needs a directory that exists",
        ),
        (
            "a.yaml",
            "a.yaml is no directory; --source file:DIR needs one",
        ),
    ] {
        let error = watch(dir.0.join(path))
            .expect_err("no directory")
            .to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}
