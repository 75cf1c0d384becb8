//! `cargo xtask conformance`: the Gateway API's own suite against the agent on a real cluster.
//!
//! The suite is its authors'; this verb brings the cluster, runs it as it is, and says what came
//! out: its report goes to docs/conformance, its log to target/conformance.log.

mod log;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use proxy_e2e::cluster::Cluster;

use crate::e2e::missing_privilege;
use crate::image;
use crate::setup;
use crate::workspace::{BuildProfile, root, target};
use log::Log;

/// `cargo xtask conformance`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The suite's profiles.
    #[arg(long, value_delimiter = ',', default_value = "MESH-HTTP,MESH-GRPC")]
    profile: Vec<String>,
    /// Features beyond the profiles' core that are claimed, and so tested.
    #[arg(long, value_delimiter = ',', default_values = FEATURES)]
    features: Vec<String>,
    /// Only this test of the suite; no report is written.
    #[arg(long)]
    run: Option<String>,
    /// The debug build of the agent: quicker to make.
    #[arg(long)]
    debug_build: bool,
    /// This image archive of the agent, instead of building one.
    #[arg(long, conflicts_with = "debug_build")]
    image: Option<PathBuf>,
    /// Without an agent: what the suite says of a cluster that has no mesh. No report is written.
    #[arg(long)]
    without_agent: bool,
}

/// What the suite has tests of in a mesh, beyond the core.
const FEATURES: &[&str] = &[
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteParentRefPort",
    "HTTPRouteResponseHeaderModification",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
];

/// Everything must be in effect this soon, and the suite gives up.
const PATIENCE_S: u32 = 5;

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(missing) = missing_privilege() {
        bail!("the cluster cannot be started: this machine lacks {missing}");
    }
    setup::run(&setup::Args::default())?;
    setup::cluster()?;
    let folder =
        std::env::temp_dir().join(format!("proxy-agent-conformance-{}", std::process::id()));
    let archive = image(args)?;
    println!("conformance: starting a cluster of two nodes");
    let cluster = Cluster::up(&folder, 2)?;
    cluster.apply_gateway_api("experimental")?;
    if let Some(archive) = archive {
        cluster.load(&archive)?;
        cluster.install(&[])?;
    }
    let log = suite(args, &cluster)?;
    print!("{log}");
    ensure!(log.failed.is_empty(), "{} tests failed", log.failed.len());
    ensure!(log.passed > 0, "no test ran: see target/conformance.log");
    let late = log.late().len();
    ensure!(late == 0, "{late} answers came later than promised");
    if args.run.is_none() && !args.without_agent {
        fs::copy(report(), published()?).context("take the suite's report")?;
    }
    Ok(())
}

/// The agent's image; none if there shall be no agent.
fn image(args: &Args) -> Result<Option<PathBuf>> {
    if args.without_agent {
        return Ok(None);
    }
    if let Some(image) = &args.image {
        return Ok(Some(image.clone()));
    }
    let profile = if args.debug_build {
        BuildProfile::Debug
    } else {
        BuildProfile::Release
    };
    image::build(profile).map(Some)
}

/// Runs the suite and reads what it says.
fn suite(args: &Args, cluster: &Cluster) -> Result<Log> {
    let mut suite = cluster.client("conformance.test");
    suite
        .args([
            "-test.v",
            "-test.run",
            "TestConformance",
            "-gateway-class=none",
        ])
        .arg(format!("-conformance-profiles={}", args.profile.join(",")))
        .arg(format!(
            "-timeout-config-overrides=MaxTimeToConsistency:{PATIENCE_S}"
        ))
        .arg("-namespace-labels=proxy-agent.io/capture=enabled")
        // What the report says of the implementation; the suite asks for each.
        .args(["-organization=proxy-agent", "-project=proxy-agent"])
        .args(["-url=proxy-agent.io", "-contact=proxy-agent.io"])
        .arg(concat!("-version=", env!("CARGO_PKG_VERSION")));
    suite.arg(format!("-supported-features={}", claimed(args).join(",")));
    match &args.run {
        Some(test) => {
            suite.arg(format!("-run-test={test}"));
        }
        None if args.without_agent => {}
        None => {
            // A former one would be taken for this run's.
            if report().exists() {
                fs::remove_file(report()).context("remove the former report")?;
            }
            suite.arg("-report-output").arg(report());
        }
    }
    println!("conformance: running the suite; its log is target/conformance.log");
    suite.stdin(Stdio::null()).stdout(Stdio::piped());
    suite.stderr(File::create(target("conformance.stderr.log")).context("create the log")?);
    let mut running = suite.spawn().context("start the suite")?;
    let said = running.stdout.take().context("its output is piped")?;
    let mut file = File::create(target("conformance.log")).context("create the log")?;
    let mut log = Log::default();
    for line in BufReader::new(said).lines() {
        let line = line.context("read what the suite says")?;
        writeln!(file, "{line}").context("write the log")?;
        if let Some(news) = log.read(&line) {
            println!("{news}");
        }
    }
    let status = running.wait().context("wait for the suite")?;
    // Tests that failed are in the log; anything else that went wrong is not.
    ensure!(
        status.success() || !log.failed.is_empty(),
        "the suite ended with {status}: see target/conformance.log"
    );
    Ok(log)
}

/// What the agent is tested for: a profile's core, which no profile claims by itself, and more.
fn claimed(args: &Args) -> Vec<&str> {
    let core = args
        .profile
        .iter()
        .flat_map(|profile| match profile.as_str() {
            "MESH-GRPC" => ["Mesh", "GRPCRoute"],
            _ => ["Mesh", "HTTPRoute"],
        });
    core.chain(args.features.iter().map(String::as_str))
        .collect()
}

/// What the suite writes.
fn report() -> PathBuf {
    target("conformance.yaml")
}

/// Where it is kept once all went well.
fn published() -> Result<PathBuf> {
    let folder = root().join("docs/conformance");
    fs::create_dir_all(&folder).context("create docs/conformance")?;
    Ok(folder.join(concat!(env!("CARGO_PKG_VERSION"), ".yaml")))
}
