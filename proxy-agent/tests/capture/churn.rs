//! Nothing may stay behind of pods that are gone.

use std::fs;

use crate::fixture::{CAPTURE, Event, Fixture, Process, alone, remove};

const CYCLES: usize = 50;

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Threads that were made to enter a namespace; the test framework's own come and go.
fn netns_threads() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.map(|entry| fs::read_to_string(entry.path().join("comm")));
    names
        .filter(|name| matches!(name, Ok(name) if name == "netns\n"))
        .count()
}

/// Watches of every inotify instance of this process (`proc_pid_fdinfo(5)`).
fn watches() -> usize {
    let files = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let infos = files.map(|entry| fs::read_to_string(entry.path()).unwrap_or_default());
    infos.map(|info| info.matches("inotify wd:").count()).sum()
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn fifty_pods_that_come_and_go_leak_nothing() {
    alone(async {
        let fixture = Fixture::start();
        let kept = Process::sandbox(&fixture.root.dir("podkept"));
        fixture.decide("kept", Some(CAPTURE));
        let cookie = fixture.captured("kept").await.netns_cookie;
        let before = (open_files(), watches());

        for cycle in 0..CYCLES {
            let uid = format!("churn-{cycle}");
            fixture.decide(&uid, Some(CAPTURE));
            let dir = fixture.root.dir(&format!("burstable/pod{uid}"));
            let process = Process::sandbox(&fixture.root.dir(&format!("burstable/pod{uid}/1")));
            fixture.captured(&uid).await;
            drop(process);
            remove(&dir);
            fixture.decide(&uid, None);
        }

        while fixture.recorder.served().len() > 1 || fixture.row("churn-49").is_some() {
            tokio::task::yield_now().await;
        }
        remove(&fixture.root.path.join("burstable"));
        while watches() != before.1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(open_files(), before.0);
        assert_eq!(netns_threads(), 0);
        let events = fixture.recorder.events();
        let of = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
        assert_eq!(of(|event| matches!(event, Event::Set(..))), CYCLES + 1);
        assert_eq!(of(|event| matches!(event, Event::Removed(_))), CYCLES);
        let row = fixture.row("kept").unwrap();
        assert!(
            row.captured && row.netns_cookie == cookie,
            "the others stay as they are"
        );
        drop(kept);
    });
}
