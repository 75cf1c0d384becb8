//! Attachment beside others, lost attachment, and the checks before it.

use std::os::fd::AsFd;

use proxy_agent::bpf::{Kernel, LoadOptions, preflight};
use proxy_agent::net::raise_nofile;
use tracing::level_filters::LevelFilter;

use crate::fixture::{Pod, sh};

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn a_program_detached_behind_the_agents_back_shows() {
    let pod = Pod::captured();
    let programs = pod.kernel.attached();
    assert_eq!(programs.len(), 6);
    assert!(programs.iter().all(|program| program.attached));
    let connect4 = &programs[0];
    sh(&format!(
        "id=$(bpftool -j link list | python3 -c 'import json, sys; \
         print(next(l[\"id\"] for l in json.load(sys.stdin) if l.get(\"prog_id\") == {}))')\n\
         bpftool link detach id $id",
        connect4.id
    ));
    let after = pod.kernel.attached();
    let gone = after.iter().filter(|program| !program.attached);
    let gone: Vec<_> = gone.map(|program| program.name.as_str()).collect();
    assert_eq!(gone, ["connect4"]);
    assert_eq!(
        pod.client("print(c(socket.socket(), '10.96.0.10', 80))"),
        "ENETUNREACH"
    );
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn links_stand_above_the_descriptors_of_sockets() {
    raise_nofile().unwrap();
    let _pod = Pod::captured();
    // Other tests' links are this process's too: five of them at least are this one's.
    let high = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(Result::ok)
        .filter(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|to| to.ends_with("anon_inode:bpf_link"))
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|number| *number >= 1_000)
        .count();
    assert!(high >= 6, "{high} links are above 1,000");
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn programs_of_others_coexist_and_detach_takes_only_ours() {
    let pod = Pod::captured();
    let options = LoadOptions {
        object: None,
        log_level: LevelFilter::OFF,
        accelerated: 0,
    };
    let other = Kernel::load(&options).unwrap();
    other.attach(pod.cgroup().as_fd()).unwrap();
    let ours = pod.kernel.attached();
    assert!(ours.iter().all(|program| program.attached));
    assert!(ours.iter().all(|program| program.others.len() == 1));
    assert_eq!(
        pod.client("print(c(socket.socket(), '10.96.0.10', 80))"),
        "ok"
    );
    pod.kernel.detach();
    pod.kernel.detach();
    assert!(
        pod.kernel
            .attached()
            .iter()
            .all(|program| !program.attached)
    );
    assert!(other.attached().iter().all(|program| program.attached));
}

#[test]
#[ignore = "needs root and the eBPF object: cargo xtask e2e"]
fn preflight_finds_no_gap_here() {
    let checks = preflight::run(None);
    let gaps: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
    assert!(gaps.is_empty(), "{gaps:#?}");
    let tried = checks.iter().find(|check| check.name == "attach").unwrap();
    assert_eq!(
        tried.detail,
        "every program is effective on a cgroup made for it"
    );
}
