//! What the control side costs at 10, 1,000 and 10,000 Services: `cargo bench --bench compile`.
//!
//! Medians of the CPU-bound part alone: sources, kernel and workers are not in it. The growth of
//! the resident memory is that of the objects and of one compiler with its snapshot.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::expect_used, reason = "a bench has nobody to report to")]

mod world;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_agent::compile::{Compiler, Options};
use proxy_agent::model::Snapshot;
use world::World;

/// Numbers of Services.
const SIZES: [usize; 3] = [10, 1_000, 10_000];
/// Compilations that begin with nothing.
const FULL: usize = 5;
/// Compilations after one change.
const CHANGES: usize = 101;

fn main() {
    println!(
        "| Services | full | one EndpointSlice | one HTTPRoute | one Service | one Pod | nothing |"
    );
    println!("|---|---|---|---|---|---|---|");
    for size in SIZES {
        let mut world = World::new(size);
        let sets = [world.set()];
        let full = median(FULL, |_| {
            timed(|| Compiler::default().compile(&sets, &options()))
        });
        let mut compiler = Compiler::default();
        let mut former = compiler.compile(&sets, &options());
        let mut after = |change: fn(&mut World, usize)| {
            median(CHANGES, |round| {
                change(&mut world, round);
                let sets = [world.set()];
                let (took, snapshot) = timed(|| compiler.compile(&sets, &options()));
                former = snapshot;
                (took, ())
            })
        };
        let slice = after(World::change_slice);
        let route = after(World::change_route);
        let service = after(World::change_service);
        let pod = after(World::change_pod);
        let nothing = after(|_, _| {});
        println!(
            "| {size} | {full:.2?} | {slice:.2?} | {route:.2?} | {service:.2?} | {pod:.2?} | {nothing:.2?} |"
        );
    }
    memory();
}

fn options() -> Options {
    Options {
        node_name: Some("node-0".to_owned()),
        ..Options::default()
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let done = work();
    (begun.elapsed(), done)
}

fn median<T>(rounds: usize, mut round: impl FnMut(usize) -> (Duration, T)) -> Duration {
    let mut took: Vec<_> = (0..rounds).map(|number| round(number).0).collect();
    took.sort();
    took[rounds / 2]
}

/// What the largest world takes in memory, by part.
fn memory() {
    let before = resident_kib();
    let mut world = World::new(SIZES[2]);
    let sets = [world.set()];
    let objects = resident_kib();
    let mut compiler = Compiler::default();
    let snapshot: Arc<Snapshot> = Arc::new(compiler.compile(&sets, &options()));
    let compiled = resident_kib();
    println!(
        "\n{} objects, {} endpoints: objects {} MiB, compiler and snapshot {} MiB",
        snapshot.objects,
        snapshot
            .clusters
            .iter()
            .map(|one| one.endpoints.len())
            .sum::<usize>(),
        (objects - before) / 1024,
        (compiled - objects) / 1024,
    );
    world.change_slice(0);
}

/// Resident memory of this process (proc(5), `VmRSS`).
fn resident_kib() -> i64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    words.and_then(|number| number.parse().ok()).expect("VmRSS")
}
