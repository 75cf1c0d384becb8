//! A file that is no manifest: what is looked at when it changes.

use std::fs;
use std::os::unix::fs::symlink;

use notify::event::{AccessKind, AccessMode, Event, EventKind};

use super::{Dir, look, names, namespace};
use crate::source::file::contents::Contents;
use crate::source::file::signals::{Changes, Signals};

/// What is to be looked at when a file was written: everything, or what has another name.
fn signalled(dir: &Dir, name: &str) -> (bool, bool) {
    let signals = Signals::default();
    let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
    signals.add(Ok(Event::new(closed).add_path(dir.0.join(name))));
    let changes = signals.take();
    (changes.all, changes.other)
}

#[test]
fn a_hidden_file_is_only_that_until_it_has_another_name() {
    let dir = Dir::new();
    let name = ".web.yaml.partial";
    assert_eq!(signalled(&dir, name), (false, true), "renamed already");
    dir.write(name, "");
    assert_eq!(signalled(&dir, name), (false, true));
    fs::hard_link(dir.0.join(name), dir.0.join("web.yaml")).expect("a link");
    assert_eq!(signalled(&dir, name), (true, false));
}

#[test]
fn a_hidden_file_has_only_manifests_with_another_name_looked_at() {
    let dir = Dir::new();
    dir.write("web.yaml", namespace("one"));
    let mut contents = Contents::new(&dir.0);
    look(&mut contents);
    let mut update = |files: &[&str]| {
        let files = files.iter().map(Into::into).collect();
        let other = true;
        contents.update(&Changes {
            files,
            other,
            ..Changes::default()
        });
        let set = contents.set();
        names(&set).join(" ")
    };
    // Nothing tells of it: only who looks knows.
    dir.write("web.yaml", namespace("another"));
    assert_eq!(update(&[]), "one");
    symlink(".real", dir.0.join("link.yaml")).expect("a link");
    assert_eq!(update(&["link.yaml"]), "one");
    dir.write(".real", namespace("late"));
    assert_eq!(update(&[]), "late another", "the link led to nothing");
    dir.write("web.yaml", namespace("third"));
    dir.write(".real", namespace("later"));
    assert_eq!(update(&[]), "later third");
    dir.remove("link.yaml");
    assert_eq!(update(&["link.yaml"]), "third");
    dir.write("web.yaml", namespace("fourth"));
    assert_eq!(update(&[]), "third");
}
