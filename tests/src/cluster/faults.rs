//! What goes wrong with clusters, on demand.

use std::process::Command;

use anyhow::{Result, ensure};

use super::{Cluster, control_plane};
use crate::netns::feed;

impl Cluster {
    /// Ends the API server, as when its machine is lost; the objects stay.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_api(&self) -> Result<()> {
        control_plane::stop_api_server(self.node(1)?)
    }

    /// Starts the API server again and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_api(&self) -> Result<()> {
        control_plane::start_api_server(&self.home, self.node(1)?)?;
        self.wait_api()
    }

    /// Ends a node's kube-proxy; its rules stay as they are.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_kube_proxy(&self, number: u8) -> Result<()> {
        self.node(number)?.stop("kube-proxy")
    }

    /// Ends a node's kubelet; its pods go on.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_kubelet(&self, number: u8) -> Result<()> {
        self.node(number)?.stop("kubelet")
    }

    /// Starts a node's kubelet again.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_kubelet(&self, number: u8) -> Result<()> {
        self.node(number)?.start_kubelet()
    }

    /// Cuts a node and its pods off from the API server, without a word to either end. Not the
    /// first node: the API server is there.
    ///
    /// # Errors
    /// nftables refused it.
    pub fn cut_api(&self, number: u8) -> Result<()> {
        ensure!(number > 1, "the API server is on node1");
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"]);
        feed(
            self.on_node(number, nft)?,
            include_str!("../../cluster/node/cut-api.nft"),
        )
    }

    /// Takes [`Cluster::cut_api`] back.
    ///
    /// # Errors
    /// It was not cut.
    pub fn restore_api(&self, number: u8) -> Result<()> {
        let words = ["nft", "delete", "table", "inet", "cut-api"];
        self.in_node(number, &words).map(drop)
    }
}
