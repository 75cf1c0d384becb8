//! Metrics of the programs and maps in the kernel.

use std::fmt;

use super::{Metric, Page, Picture};
use crate::status::{AccelerationStatus, MapStatus};

pub(super) fn write(picture: &Picture, page: &mut Page<'_>) -> fmt::Result {
    let bpf = &picture.status.bpf;
    let outcomes = Metric::new("hook_outcomes", "Outcomes of the hooks, by counter");
    let counters = bpf.counters.iter();
    page.counters(
        &outcomes,
        counters.map(|counter| (vec![("outcome", &*counter.name)], counter.value)),
    )?;
    let swept = Metric::new(
        "flows_swept",
        "Redirected connections that were never accepted and were forgotten after 60 s",
    );
    page.counter(&swept, bpf.flows_swept_total)?;
    acceleration(&bpf.acceleration, page)?;
    let attached = Metric::new("bpf_program_attached", "1 if the kernel lists the program");
    let programs = bpf.programs.iter();
    page.gauges(
        &attached,
        programs.map(|program| {
            let value = f64::from(u8::from(program.attached));
            (vec![("program", &*program.name)], value)
        }),
    )?;
    let each = |value: fn(&MapStatus) -> u64| {
        let maps = bpf.maps.iter();
        maps.map(move |map| (vec![("map", &*map.name)], value(map) as f64))
    };
    let entries = Metric::new("bpf_map_entries", "Entries in the map");
    page.gauges(&entries, each(|map| map.entries))?;
    let room = Metric::new("bpf_map_max_entries", "Entries that the map has room for");
    page.gauges(&room, each(|map| map.max_entries))?;
    let memory = Metric::new(
        "bpf_map_memory_bytes",
        "Memory that the kernel counts for the map",
    );
    page.gauges(&memory, each(|map| map.memory_bytes))
}

fn acceleration(of: &AccelerationStatus, page: &mut Page<'_>) -> fmt::Result {
    let open = Metric::new(
        "accelerated_connections_open",
        "Connections whose bytes go from socket to socket",
    );
    page.gauge(&open, of.connections_open as f64)?;
    let ever = Metric::new(
        "accelerated_connections",
        "Connections whose bytes went from socket to socket",
    );
    page.counter(&ever, of.connections_total)?;
    let open = Metric::new(
        "accelerated_to_pods_open",
        "Connections from the agent to pods whose bytes go from socket to socket",
    );
    page.gauge(&open, of.to_pods_open as f64)?;
    let ever = Metric::new(
        "accelerated_to_pods",
        "Connections from the agent to pods whose bytes went from socket to socket",
    );
    page.counter(&ever, of.to_pods_total)?;
    let not = Metric::new(
        "not_accelerated",
        "Connections of pods that ask for acceleration without it, or without it in one direction",
    );
    let reasons = of.not_accelerated.iter();
    page.counters(&not, reasons.map(|(why, n)| (vec![("reason", &**why)], *n)))
}
