//! The views of `status` as tables.

use super::table::Table;
use super::units::{microseconds, percent};
use crate::status::{
    AccelerationStatus, BpfStatus, EndpointStatus, PodStatus, RouteStatus, SelfTestStatus,
    ServiceStatus,
};

/// `status pods`.
pub(super) fn pods(pods: &[PodStatus]) -> String {
    let mut table = Table::new([
        "NAMESPACE",
        "POD",
        "CAPTURED",
        "LISTENERS",
        ">ENROLLED IN",
        ">CONNECTIONS",
        ">OPEN",
        "REASON",
    ]);
    for pod in pods {
        let name = if pod.name.is_empty() {
            format!("(uid {})", pod.uid)
        } else {
            pod.name.clone()
        };
        let enrolled = match pod.enrolment_us {
            0 => "-".to_owned(),
            us => microseconds(us),
        };
        table.row([
            or_dash(&pod.namespace),
            name,
            yes_no(pod.captured),
            or_dash(&pod.listeners.join(",")),
            enrolled,
            pod.connections_total.to_string(),
            pod.connections_open.to_string(),
            pod.reason.clone(),
        ]);
    }
    table.finish("no pods were seen on this node")
}

/// `status services`.
pub(super) fn services(services: &[ServiceStatus]) -> String {
    let mut table = Table::new([
        "SERVICE",
        "PORT",
        "MODE",
        "ADDRESSES",
        "BALANCE",
        ">ENDPOINTS",
        ">REQUESTS",
        ">SUCCESS",
        ">IN FLIGHT",
        ">P50",
        ">P90",
        ">P99",
    ]);
    for service in services {
        let port = match &*service.port_name {
            "" => service.port.to_string(),
            name => format!("{} {name}", service.port),
        };
        let mode = match &*service.reason {
            "" => service.mode.clone(),
            reason => format!("{} ({reason})", service.mode),
        };
        let traffic = &service.traffic;
        let measured = |text: String| match traffic.requests_total {
            0 => "-".to_owned(),
            _ => text,
        };
        // Opaque connections have no latency, and no response takes 0 µs.
        let latency = |us: u64| match us {
            0 => "-".to_owned(),
            _ => microseconds(us),
        };
        table.row([
            format!("{}/{}", service.namespace, service.name),
            port,
            mode,
            or_dash(&service.addresses.join(",")),
            or_dash(&service.balance),
            service.endpoints.to_string(),
            traffic.requests_total.to_string(),
            measured(percent(traffic.success_rate)),
            traffic.in_flight.to_string(),
            latency(traffic.latency_p50_us),
            latency(traffic.latency_p90_us),
            latency(traffic.latency_p99_us),
        ]);
    }
    table.finish("no Services are known")
}

/// `status routes`: a table each, since rules are long.
pub(super) fn routes(routes: &[RouteStatus]) -> String {
    if routes.is_empty() {
        return "no routes are known\n".to_owned();
    }
    let tables = routes.iter().map(|route| {
        let clients = match &*route.clients {
            "all" => String::new(),
            namespace => format!(", for clients in {namespace}"),
        };
        let head = format!("{} ({}{clients})\n", route.parent, route.origin);
        let rules = route.rules.iter().map(|rule| format!("  {rule}\n"));
        let shadowed = route.shadowed.iter();
        let shadowed = shadowed.map(|one| format!("  shadowed: {one}\n"));
        head + &rules.chain(shadowed).collect::<String>()
    });
    tables.collect::<Vec<_>>().join("\n")
}

/// `status endpoints`.
pub(super) fn endpoints(endpoints: &[EndpointStatus]) -> String {
    let mut table = Table::new([
        "CLUSTER",
        "ADDRESS",
        "POD",
        "NODE",
        ">REQUESTS",
        ">IN FLIGHT",
        ">CONNECT FAILURES",
        ">DIRECT OPEN",
        ">TOTAL",
        ">FAILED",
        ">CONNECT TIME",
        "EJECTED FOR",
    ]);
    for endpoint in endpoints {
        table.row([
            endpoint.cluster.clone(),
            endpoint.address.clone(),
            or_dash(&endpoint.pod),
            or_dash(&endpoint.node),
            endpoint.requests_total.to_string(),
            endpoint.in_flight.to_string(),
            endpoint.connect_failures_total.to_string(),
            endpoint.direct_open.to_string(),
            endpoint.direct_total.to_string(),
            endpoint.direct_failures_total.to_string(),
            match endpoint.direct_connect_us {
                0 => "-".to_owned(),
                us => microseconds(us),
            },
            match endpoint.ejected_ms {
                0 => "-".to_owned(),
                ms => format!("{} s", ms.div_ceil(1_000)),
            },
        ]);
    }
    table.finish("no endpoints are known")
}

/// `status bpf`.
pub(super) fn bpf(bpf: &BpfStatus) -> String {
    let mut programs = Table::new([
        "PROGRAM",
        ">ID",
        "ATTACHED",
        ">TIMED RUNS",
        ">MEAN NS",
        "OTHERS ON THE HOOK",
    ]);
    for program in &bpf.programs {
        let others = program.others.iter().map(u32::to_string);
        programs.row([
            program.name.clone(),
            program.id.to_string(),
            yes_no(program.attached),
            program.timed_runs.to_string(),
            match program.mean_ns {
                0 => "-".to_owned(),
                ns => ns.to_string(),
            },
            or_dash(&others.collect::<Vec<_>>().join(",")),
        ]);
    }
    let mut maps = Table::new(["MAP", ">ENTRIES", ">OF", ">KIB"]);
    for map in &bpf.maps {
        maps.row([
            map.name.clone(),
            map.entries.to_string(),
            map.max_entries.to_string(),
            map.memory_bytes.div_ceil(1_024).to_string(),
        ]);
    }
    let mut counters = Table::new(["COUNTER", ">VALUE"]);
    for counter in &bpf.counters {
        counters.row([counter.name.clone(), counter.value.to_string()]);
    }
    counters.row(["flows_swept".to_owned(), bpf.flows_swept_total.to_string()]);
    [
        programs.finish("no programs are loaded"),
        maps.finish("no maps are loaded"),
        counters.finish(""),
        acceleration(&bpf.acceleration),
    ]
    .join("\n")
}

fn acceleration(of: &AccelerationStatus) -> String {
    let mut table = Table::new(["ACCELERATION", "VALUE"]);
    let tried = |item: &SelfTestStatus| item.result == "passed" || !item.failure.is_empty();
    let usable = if !of.unusable.is_empty() {
        format!("NO: {}", of.unusable)
    } else if of.self_test.iter().all(tried) {
        "yes".to_owned()
    } else {
        "not known yet".to_owned()
    };
    table.row(["usable".to_owned(), usable]);
    for item in &of.self_test {
        let result = match &*item.result {
            "failed" => format!("FAILED: {}", item.failure),
            "tolerated" => format!("tolerated: {}", item.failure),
            other => other.to_owned(),
        };
        table.row([format!("self-test {}", item.name), result]);
    }
    table.row([
        "connections open".to_owned(),
        of.connections_open.to_string(),
    ]);
    table.row([
        "connections ever".to_owned(),
        of.connections_total.to_string(),
    ]);
    table.row(["to pods open".to_owned(), of.to_pods_open.to_string()]);
    table.row(["to pods ever".to_owned(), of.to_pods_total.to_string()]);
    for (why, count) in &of.not_accelerated {
        table.row([format!("not accelerated: {why}"), count.to_string()]);
    }
    table.finish("")
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "NO" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::TrafficStatus;

    #[test]
    fn opaque_connections_have_a_rate_and_no_latency() {
        let opaque = ServiceStatus {
            mode: "tcp".to_owned(),
            traffic: TrafficStatus {
                requests_total: 4,
                success_total: 3,
                success_rate: 0.75,
                ..TrafficStatus::default()
            },
            ..ServiceStatus::default()
        };
        let table = services(&[opaque]);
        assert!(table.contains("75.00 %"), "{table}");
        assert!(!table.contains("µs"), "{table}");
    }
}
