//! `cargo xtask cluster`: a real Kubernetes on this machine, for looking and for trying.
//!
//! The cluster itself is `proxy_e2e::cluster`; this is its command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use proxy_e2e::cluster::Cluster;

use crate::setup;
use crate::workspace::run as run_command;

/// `cargo xtask cluster`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the cluster's files are; its name is that of its cgroups and network namespaces.
    #[arg(long, env = proxy_e2e::cluster::FOLDER, default_value_os_t = Cluster::usual_folder())]
    folder: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Starts a cluster, DNS included.
    Up {
        /// How many nodes; the first also runs the control plane.
        #[arg(default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
    },
    /// Ends every process of the cluster and removes all that it made.
    Down,
    /// Gives image archives to every node; use them with `imagePullPolicy: Never`.
    Load {
        /// The archives, as `cargo xtask image` writes them.
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Runs kubectl as the administrator.
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Runs helm as the administrator.
    #[command(disable_help_flag = true)]
    Helm {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Runs a command inside a node.
    #[command(disable_help_flag = true)]
    Node {
        /// The node, from 1.
        number: u8,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let attach = || Cluster::attach(&args.folder);
    match &args.verb {
        Verb::Up { nodes } => up(args, *nodes),
        Verb::Down => Cluster::remove(&args.folder),
        Verb::Load { archives } => {
            let cluster = attach()?;
            archives
                .iter()
                .try_for_each(|archive| cluster.load(archive))
        }
        Verb::Kubectl { arguments } => pass(attach()?.client("kubectl").args(arguments)),
        Verb::Helm { arguments } => pass(attach()?.client("helm").args(arguments)),
        Verb::Node { number, command } => {
            let (program, arguments) = command.split_first().context("a command is missing")?;
            let mut command = Command::new(program);
            command.args(arguments);
            pass(&mut attach()?.on_node(*number, command)?)
        }
    }
}

/// Runs a command that speaks for itself, and ends as it does.
fn pass(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {command:?}"))?;
    if let Some(code) = status.code().filter(|code| *code != 0) {
        std::process::exit(code);
    }
    ensure!(status.success(), "the command ended with {status}");
    Ok(())
}

fn up(args: &Args, nodes: u8) -> Result<()> {
    setup::cluster()?;
    println!(
        "cluster: starting {nodes} nodes in {}",
        args.folder.display()
    );
    let begun = Instant::now();
    let cluster = Cluster::up(&args.folder, nodes)?.keep();
    println!(
        "cluster: ready in {:.0?}; its processes hold {} MiB of their own",
        begun.elapsed(),
        cluster.memory_kib()? / 1_024
    );
    run_command(
        cluster
            .client("kubectl")
            .args(["get", "nodes", "-o", "wide"]),
    )?;
    println!("cluster: kubeconfig {}", cluster.kubeconfig().display());
    Ok(())
}
