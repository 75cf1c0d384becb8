//! The agent on a real Kubernetes of two nodes, installed by its chart: one cluster for all tests,
//! which run one after the other in the order given here. `cargo xtask e2e --cluster [FILTER]`.
//!
//! A test leaves the cluster as it found it; the last two uninstall the agent.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a harness of its own: it speaks to a terminal"
)]

mod answers;
mod faults;
mod load;
mod plugin;
mod pods;
mod removal;
mod rollout;
mod routes;
mod scene;
mod traffic;
mod unharmed;
mod wrk;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use scene::Scene;

type Test = (&'static str, fn(&Scene) -> Result<()>);

const TESTS: &[Test] = &[
    (
        "pods are found, whoever makes their cgroups",
        pods::pods_are_found_whoever_makes_their_cgroups,
    ),
    (
        "captured pods of both nodes are balanced by request",
        traffic::captured_pods_of_both_nodes_are_balanced_by_request,
    ),
    (
        "grpc and tcp reach the endpoints of both nodes",
        traffic::grpc_and_tcp_reach_the_endpoints_of_both_nodes,
    ),
    (
        "headless Services take the ordinary way",
        traffic::headless_services_take_the_ordinary_way,
    ),
    (
        "node ports take the ordinary way",
        traffic::node_ports_take_the_ordinary_way,
    ),
    ("DNS is left alone", traffic::dns_is_left_alone),
    (
        "a Service without endpoints fails fast",
        traffic::a_service_without_endpoints_fails_fast,
    ),
    (
        "the first connection of an init container is captured",
        traffic::the_first_connection_of_an_init_container_is_captured,
    ),
    (
        "probes, logs and port-forward work on captured pods",
        unharmed::probes_logs_and_port_forward_work_on_captured_pods,
    ),
    ("a static pod is captured", pods::a_static_pod_is_captured),
    (
        "a pod is captured again after its sandbox died",
        pods::a_pod_is_captured_again_after_its_sandbox_died,
    ),
    (
        "a finished pod is released",
        pods::a_finished_pod_is_released,
    ),
    (
        "a pod on the node's network is left alone",
        pods::a_pod_on_the_nodes_network_is_left_alone,
    ),
    (
        "kube-system is left alone, also when everything is captured",
        unharmed::kube_system_is_left_alone_also_when_everything_is_captured,
    ),
    (
        "a route created, changed and deleted takes effect",
        routes::a_route_created_changed_and_deleted_takes_effect,
    ),
    (
        "a route shows whether it is accepted and whole",
        routes::a_route_shows_whether_it_is_accepted_and_whole,
    ),
    (
        "the plugin asks the agent of the pod's node",
        plugin::the_plugin_asks_the_agent_of_the_pods_node,
    ),
    (
        "the plugin says what is wrong and ends with a code",
        plugin::the_plugin_says_what_is_wrong_and_ends_with_a_code,
    ),
    (
        "a killed agent leaves the ordinary way and comes back",
        faults::a_killed_agent_leaves_the_ordinary_way_and_comes_back,
    ),
    (
        "a node cut off from the API server goes on and catches up",
        faults::a_node_cut_off_from_the_api_server_goes_on_and_catches_up,
    ),
    (
        "a restart of the API server is not felt",
        faults::a_restart_of_the_api_server_is_not_felt,
    ),
    (
        "a rollout under load fails no request",
        rollout::a_rollout_under_load_fails_no_request,
    ),
    (
        "a successor that cannot start leaves the old one serving",
        rollout::a_successor_that_cannot_start_leaves_the_old_one_serving,
    ),
    (
        "uninstalling leaves nothing",
        removal::uninstalling_leaves_nothing,
    ),
    (
        "the rendered manifests install and remove it too",
        removal::the_rendered_manifests_install_and_remove_it_too,
    ),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // What libtest takes and this does not, begins with a dash.
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let filter = filter.unwrap_or_default();
    let chosen: Vec<&Test> = TESTS
        .iter()
        .filter(|(name, _)| name.contains(&filter))
        .collect();
    let begun = Instant::now();
    let scene = Scene::set()?;
    println!(
        "\nthe cluster and the agents are up ({:.0?}); {} tests",
        begun.elapsed(),
        chosen.len()
    );
    let mut failed = Vec::new();
    for (name, test) in chosen {
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| test(&scene)));
        let took = begun.elapsed();
        match outcome {
            Ok(Ok(())) => println!("test {name} ... ok ({took:.1?})"),
            Ok(Err(error)) => {
                println!("test {name} ... FAILED ({took:.1?})\n{error:?}");
                failed.push(*name);
            }
            // The panic has said why.
            Err(_) => {
                println!("test {name} ... FAILED ({took:.1?})");
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        println!("test result: ok");
        return Ok(());
    }
    println!("{}", scene.cluster.agent_logs());
    bail!("failed: {}", failed.join("; "))
}
