//! Arguments of `run`.

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::builder::{RangedI64ValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use proxy_ebpf::Settings;

use super::values::SourceArg;
use crate::compile::ServiceCidr;

const EXAMPLES: &str = "\
Examples:
  proxy-agent run --source kubernetes
  proxy-agent run --source file:/etc/proxy-agent
  proxy-agent run --source file:examples --capture all --node-name node-1 \\
      --admin-address 0.0.0.0:15020 --log-format json

Sources of this version: kubernetes, the cluster's API server (KUBECONFIG, else the
pod's service account); file:DIR, a directory of Kubernetes manifests.
Pods are captured where their namespace's label or their own annotation
proxy-agent.io/capture says `enabled`.";

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Where objects are read from: `kubernetes` or `file:DIR`. May be given several times.
    #[arg(long = "source", value_name = "SOURCE", required = true)]
    pub sources: Vec<SourceArg>,
    /// Name of this node, as Pods and EndpointSlices spell it; else the host name.
    #[arg(long, env = "NODE_NAME", value_name = "NAME", default_value_t = host_name())]
    pub node_name: String,
    /// Which pods are captured.
    #[arg(long, value_enum, default_value_t = Capture::Labelled)]
    pub capture: Capture,
    /// Range that Services read from files get an address of, if they have none.
    #[arg(long, value_name = "CIDR", default_value_t = ServiceCidr::default())]
    pub service_cidr: ServiceCidr,
    /// The cgroup directory that holds the pods; else the node's kubepods cgroup is looked for.
    #[arg(long, value_name = "PATH")]
    pub cgroup_root: Option<PathBuf>,
    /// Socket-to-socket acceleration of connections between pods and the agent.
    #[arg(long, value_enum, default_value_t = Acceleration::OptIn)]
    pub acceleration: Acceleration,
    /// Worker threads, 1 to 64; else one for each CPU that the agent may use.
    #[arg(long, value_name = "N", default_value_t = usable_cpus(), value_parser = workers(), hide_default_value = true)]
    pub workers: u32,
    /// How long open connections may go on after SIGTERM, as in `30s` or `5m`.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
    /// What happens to connections of pods that the agent has not decided on yet.
    #[arg(long, value_enum, default_value_t = UnknownPods::Pass)]
    pub unknown_pods: UnknownPods,
    /// DNS server that resolves the hosts of ServiceEntries; else those of /etc/resolv.conf.
    #[arg(long, value_name = "ADDR")]
    pub dns_server: Option<SocketAddr>,
    /// eBPF object to load in place of the embedded one.
    #[arg(long, value_name = "PATH")]
    pub bpf_object: Option<PathBuf>,
    /// Unix socket that serves the state (mode 0600).
    #[arg(long, value_name = "PATH", default_value = super::DEFAULT_ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
    /// Address that serves /metrics, /healthz and /readyz.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15020")]
    pub admin_address: SocketAddr,
    /// How the log is written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Seed of the balancers' random choices, for repeatable tests; else a random one.
    #[arg(long, value_name = "N", hide = true)]
    pub balance_seed: Option<u64>,
}

/// Which pods are captured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Capture {
    /// Those whose namespace label or own annotation asks for it.
    Labelled,
    /// All but those that say `disabled`, kube-system's, and those of the agent's namespace.
    All,
}

/// Socket-to-socket acceleration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Acceleration {
    /// For no pod.
    Off,
    /// For the pods that ask for it.
    OptIn,
    /// For every pod that does not say `disabled`.
    On,
}

/// What happens to connections of pods whose enrolment is undecided.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum UnknownPods {
    /// They take the node's ordinary path.
    Pass,
    /// They are refused.
    Refuse,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

fn workers() -> impl TypedValueParser<Value = u32> {
    RangedI64ValueParser::<u32>::new().range(1..=i64::from(Settings::MAX_WORKERS))
}

/// CPUs that this process may run on, by affinity and cgroup quota.
fn usable_cpus() -> u32 {
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    u32::try_from(cpus).map_or(Settings::MAX_WORKERS, |n| n.min(Settings::MAX_WORKERS))
}

/// As uname(2) has it, which is what kubelet registers a node by.
fn host_name() -> String {
    match fs::read_to_string("/proc/sys/kernel/hostname") {
        Ok(name) => name.trim_end().to_owned(),
        Err(_unreadable) => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn run(line: &str) -> Result<Box<RunArgs>, String> {
        let line = format!("proxy-agent run {line}");
        match Cli::try_parse_from(line.split_whitespace()) {
            Ok(cli) => {
                let Verb::Run(args) = cli.verb else {
                    panic!("not run");
                };
                Ok(args)
            }
            Err(error) => {
                assert_eq!(error.exit_code(), 2);
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let args = run("--source file:/etc/proxy-agent --node-name n").unwrap();
        assert_eq!(args.capture, Capture::Labelled);
        assert_eq!(args.service_cidr.to_string(), "10.111.0.0/16");
        assert_eq!(args.cgroup_root, None);
        assert_eq!(args.acceleration, Acceleration::OptIn);
        assert_eq!(args.drain_timeout, Duration::from_secs(30));
        assert_eq!(args.unknown_pods, UnknownPods::Pass);
        assert_eq!(
            args.admin_socket.to_str(),
            Some("/run/proxy-agent/agent.sock")
        );
        assert_eq!(args.admin_address.to_string(), "127.0.0.1:15020");
        assert_eq!(args.log_format, LogFormat::Text);
        assert!((1..=64).contains(&args.workers));
    }

    #[test]
    fn several_sources_may_be_given() {
        let args = run("--source file:a --source kubernetes").unwrap();
        assert_eq!(args.sources.len(), 2);
    }

    #[test]
    fn what_this_version_lacks_is_refused_by_name() {
        let error = run("--source xds:http://host:1").unwrap_err();
        assert!(
            error.contains("not in this version") && error.contains("file:DIR"),
            "{error}"
        );
    }

    #[test]
    fn acceleration_has_three_words() {
        for (word, expected) in [
            ("off", Acceleration::Off),
            ("opt-in", Acceleration::OptIn),
            ("on", Acceleration::On),
        ] {
            let args = run(&format!("--source file:a --acceleration {word}")).unwrap();
            assert_eq!(args.acceleration, expected);
        }
        assert!(run("--source file:a --acceleration direct").is_err());
    }

    #[test]
    fn workers_have_a_range() {
        assert!(run("--source file:a --workers 64").is_ok());
        assert!(run("--source file:a --workers 0").is_err());
        assert!(run("--source file:a --workers 65").is_err());
    }

    #[test]
    fn a_bad_range_is_wrong_usage() {
        let error = run("--source file:a --service-cidr 10.0.0.0/33").unwrap_err();
        assert!(error.contains("--service-cidr"), "{error}");
    }
}
