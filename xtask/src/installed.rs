//! The agent as users install it, on a cluster, for the verbs that watch it there.
//!
//! Owns the order of things: programs, image, cluster, chart. What is measured is the verbs' own.

pub(crate) mod api;
pub(crate) mod footprint;
pub(crate) mod pod_load;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use proxy_e2e::cluster::{self, Cluster};

use crate::e2e::missing_privilege;
use crate::image;
use crate::setup;
use crate::workspace::{BuildProfile, build_harness};
use footprint::Agent;

/// The image that clients and servers run from; its program is `e2e-http`.
pub(crate) const CLIENT_IMAGE: &str = "local/e2e-http:dev";

/// Where, and with which agent.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// Where the cluster's files are. One that runs there is used and goes on running; else one is
    /// started, and removed in the end.
    #[arg(long, env = cluster::FOLDER, default_value_os_t = Cluster::usual_folder())]
    folder: PathBuf,
    /// Installs this archive instead of building an image of the release build.
    #[arg(long)]
    image: Option<PathBuf>,
    /// How clients and servers are built: those of a debug build leave less of the machine for what is measured.
    #[arg(skip = BuildProfile::Release)]
    programs: BuildProfile,
}

impl Place {
    /// The cluster that runs in this folder, the agent of this archive, and the programs that tests have built.
    pub(crate) const fn there(folder: PathBuf, image: PathBuf) -> Self {
        Self {
            folder,
            image: Some(image),
            programs: BuildProfile::Debug,
        }
    }
}

/// A cluster with the agent on it.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) cluster: Cluster,
    /// One for each node, in order.
    pub(crate) agents: Vec<Agent>,
    /// The program of [`CLIENT_IMAGE`].
    pub(crate) client: PathBuf,
}

impl Installed {
    /// Brings all of it. `values` are `NAME=VALUE` of the chart.
    pub(crate) fn on(place: &Place, nodes: u8, values: &[&str]) -> Result<Self> {
        if let Some(missing) = missing_privilege() {
            bail!("the cluster cannot be started: this machine lacks {missing}");
        }
        setup::cluster()?;
        let archive = match &place.image {
            Some(archive) => archive.clone(),
            None => {
                setup::toolchain()?;
                println!("building the image of the agent");
                image::build(BuildProfile::Release)?
            }
        };
        build_harness(place.programs)?;
        let client = place.programs.folder().join("e2e-http");
        let clients = image::of_program(CLIENT_IMAGE, &client)?;
        let cluster = cluster_in(&place.folder, nodes)?;
        cluster.load(&clients)?;
        cluster.load(&archive)?;
        cluster.apply_gateway_api("standard")?;
        let mut installed = Self {
            cluster,
            agents: Vec::new(),
            client,
        };
        installed.install(values)?;
        Ok(installed)
    }

    /// Installs the chart anew, with other values.
    pub(crate) fn install(&mut self, values: &[&str]) -> Result<()> {
        let there = ["get", "namespace", "proxy-agent", "--ignore-not-found"];
        if !self.cluster.kubectl(there)?.is_empty() {
            self.cluster.uninstall()?;
        }
        self.cluster.install(values)?;
        let nodes = 1..=self.cluster.nodes();
        let agents = nodes.map(|node| Agent::of(&self.cluster, node));
        self.agents = agents.collect::<Result<_>>()?;
        Ok(())
    }

    /// Creates a namespace of this name from its manifests, anew.
    pub(crate) fn stage(&self, namespace: &str, manifests: &str) -> Result<()> {
        self.clear(namespace)?;
        self.cluster.apply(manifests)?;
        self.settle(namespace)
    }

    /// Waits until the namespace's Deployments and DaemonSets are as they are meant to be.
    pub(crate) fn settle(&self, namespace: &str) -> Result<()> {
        let kinds = ["daemonset", "deployment"];
        for object in self.names(namespace, &kinds.join(","))?.lines() {
            let rollout = ["rollout", "status", object, "-n", namespace];
            self.cluster
                .kubectl(rollout.iter().chain(&["--timeout=180s"]))?;
        }
        Ok(())
    }

    /// Removes the namespace with all in it.
    pub(crate) fn clear(&self, namespace: &str) -> Result<()> {
        let delete = ["delete", "namespace", namespace, "--ignore-not-found"];
        self.cluster
            .kubectl(delete.iter().chain(&["--timeout=600s"]))
            .map(drop)
    }

    /// Names of a namespace's objects, one a line, as `KIND/NAME`.
    pub(crate) fn names(&self, namespace: &str, kinds: &str) -> Result<String> {
        self.cluster
            .kubectl(["get", kinds, "-n", namespace, "-o", "name"])
    }

    /// The address of a Service.
    pub(crate) fn cluster_ip(&self, namespace: &str, service: &str) -> Result<String> {
        let service = self
            .cluster
            .kubectl_json(["get", "service", service, "-n", namespace])?;
        let address = service["spec"]["clusterIP"].as_str();
        Ok(address.context("a Service has an address")?.to_owned())
    }
}

fn cluster_in(folder: &Path, nodes: u8) -> Result<Cluster> {
    if !folder.exists() {
        println!("starting a cluster of {nodes} in {}", folder.display());
        return Cluster::up(folder, nodes);
    }
    let cluster = Cluster::attach(folder)?;
    let there = cluster.nodes();
    ensure!(
        there == nodes,
        "the cluster in {} has {there} nodes, not {nodes}",
        folder.display()
    );
    println!("using the cluster in {}", folder.display());
    Ok(cluster)
}
