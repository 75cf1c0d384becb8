//! The command line, as types. What flags mean is said here, what verbs do is not.
//!
//! Names, defaults and exit codes (0 success, 1 the check or command failed, 2 wrong usage) are
//! API: scripts rely on them.

mod explain;
mod run;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use explain::ExplainArgs;
pub use run::{Acceleration, Capture, LogFormat, RunArgs, UnknownPods};
pub use values::{Header, PodName, SourceArg};

/// Where `run` serves its state and the other verbs ask for it.
pub const DEFAULT_ADMIN_SOCKET: &str = "/run/proxy-agent/agent.sock";

const EXAMPLES: &str = "\
Examples:
  proxy-agent check                                    can this node run it?
  proxy-agent validate manifests/                      are these files in order?
  proxy-agent run --source file:/etc/proxy-agent       capture, route, balance
  proxy-agent status                                   what it does, and what is wrong
  proxy-agent explain --from shop/web GET http://cart/ where this request would go, and why

The log level is set by the environment: PROXY_AGENT_LOG=debug, or by module as in
PROXY_AGENT_LOG=info,proxy_agent::capture=debug.";

/// One transparent proxy for all pods of a Kubernetes node, in place of a sidecar per pod.
#[derive(Debug, Parser)]
#[command(name = "proxy-agent", version, about, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Captures the node's pods and proxies for them until SIGTERM.
    Run(Box<RunArgs>),
    /// Shows what the running agent does, and what is wrong.
    Status(StatusArgs),
    /// Tells what would happen to a request of a pod, and why.
    Explain(Box<ExplainArgs>),
    /// Checks manifests without an agent; exits 1 on any error.
    Validate(ValidateArgs),
    /// Checks kernel, cgroup v2, BTF and capabilities; exits 1 at a gap.
    Check(CheckArgs),
}

const STATUS_EXAMPLES: &str = "\
Examples:
  proxy-agent status                 overview: ready or why not, problems
  proxy-agent status pods            which pods are captured, and why others are not
  proxy-agent status services --watch
  proxy-agent status -o json | jq .overview.not_ready";

/// Arguments of `status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct StatusArgs {
    /// The part to show; the overview if left out.
    pub view: Option<StatusView>,
    /// How it is written.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
    /// Shows it again every 2 seconds, until ctrl-c.
    #[arg(long)]
    pub watch: bool,
    /// Socket of the running agent.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
}

/// Parts of the status.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum StatusView {
    /// Pods of this node: captured or not, and why not.
    Pods,
    /// Service ports: verdict, endpoints, traffic.
    Services,
    /// Route tables and the objects they come from.
    Routes,
    /// Endpoints of every cluster, with their traffic.
    Endpoints,
    /// Programs, maps and counters in the kernel.
    Bpf,
}

/// How state is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns, for people.
    Table,
    /// JSON, as the admin socket answers it.
    Json,
    /// The same as YAML.
    Yaml,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ReportFormat {
    /// One line for each finding, for people.
    Table,
    /// JSON.
    Json,
}

const VALIDATE_EXAMPLES: &str = "\
Examples:
  proxy-agent validate examples/
  proxy-agent validate service.yaml route.yaml -o json";

/// Arguments of `validate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = VALIDATE_EXAMPLES)]
pub struct ValidateArgs {
    /// Files, or directories with what is below them; all are checked together.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How the findings are written.
    #[arg(short, long, value_enum, default_value_t = ReportFormat::Table)]
    pub output: ReportFormat,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  proxy-agent check
  proxy-agent check -o json";

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    /// eBPF object to try in place of the embedded one.
    #[arg(long, value_name = "PATH")]
    pub bpf_object: Option<PathBuf>,
    /// How the findings are written.
    #[arg(short, long, value_enum, default_value_t = ReportFormat::Table)]
    pub output: ReportFormat,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_help_with_an_example() {
        let cli = Cli::command();
        let verbs: Vec<_> = cli.get_subcommands().collect();
        assert_eq!(verbs.len(), 5);
        for verb in verbs {
            let help = verb.clone().render_long_help().to_string();
            let example = format!("  proxy-agent {}", verb.get_name());
            assert!(help.contains(&example), "{}: {help}", verb.get_name());
        }
    }

    #[test]
    fn wrong_usage_exits_2() {
        for line in [
            "proxy-agent",
            "proxy-agent fly",
            "proxy-agent run",
            "proxy-agent status nodes",
            "proxy-agent status -o xml",
            "proxy-agent validate",
            "proxy-agent explain GET http://cart/",
            "proxy-agent explain --from web GET http://cart/",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_exits_0() {
        let error = parse("proxy-agent run --help").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        assert_eq!(error.exit_code(), 0);
    }

    #[test]
    fn status_takes_a_view_and_a_format() {
        let Verb::Status(args) = parse("proxy-agent status bpf -o yaml").unwrap().verb else {
            panic!("not status");
        };
        assert_eq!(args.view, Some(StatusView::Bpf));
        assert_eq!(args.output, OutputFormat::Yaml);
        assert_eq!(args.admin_socket, PathBuf::from(DEFAULT_ADMIN_SOCKET));
    }
}
