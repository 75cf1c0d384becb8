//! How an agent comes in: as the first on the node, or after another one.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Server, Views};
use crate::capture::cgroup::own_id;
use crate::cli::RunArgs;
use crate::metrics;
use crate::metrics::traffic::Traffic;
use crate::status::{BpfStatus, Overview, Status};

use super::super::Error;
use super::path;
use super::take::{Claim, Waiting, claim};

/// Time that an agent which has drained takes to end.
const GRACE: Duration = Duration::from_secs(5);
/// Pause between attempts at an address that is in use.
const PAUSE: Duration = Duration::from_millis(200);

/// The node's lock or another agent's offer, and the admin address.
#[derive(Debug)]
pub(in crate::agent) struct Entrance {
    pub(in crate::agent) claim: Claim,
    pub(in crate::agent) address: TcpListener,
    /// The address is the predecessor's, which answers there.
    pub(in crate::agent) address_is_shared: bool,
}

/// Waits until there is something to do for this agent; `/readyz` says what it waits for.
///
/// # Errors
///
/// Another agent serves the node and does not hand it over, or the address is somebody else's.
pub(in crate::agent) async fn enter(args: &RunArgs, root: &Path) -> Result<Entrance, Error> {
    let (socket, waiting) = (path(&args.admin_socket), Waiting::default());
    let cgroup = own_id()?;
    let bound = admin::bind_address(args.admin_address).await;
    let claim = match &bound {
        Ok(listener) => {
            let listener = listener.try_clone().map_err(|source| Error::System {
                action: "answer while waiting",
                source,
            })?;
            let answers = Server::on_address(listener)?;
            let views = Arc::new(views(args, waiting.clone()));
            tokio::select! {
                claim = claim(root, &socket, cgroup, &waiting) => claim?,
                () = answers.run(views, CancellationToken::new()) => return Err(Error::System {
                    action: "answer while waiting",
                    source: std::io::ErrorKind::UnexpectedEof.into(),
                }),
            }
        }
        // Perhaps it is the predecessor's, who answers there.
        Err(_taken) => claim(root, &socket, cgroup, &waiting).await?,
    };
    let (address, address_is_shared) = match (bound, &claim) {
        (Ok(address), _) => (address, false),
        (Err(_taken), Claim::Free(_)) => (bind_freed(args).await?, false),
        (Err(taken), Claim::Offered(offered)) => {
            let listener = offered.admin_listener(args.admin_address);
            let listener = listener.map_err(|source| Error::System {
                action: "share the admin address",
                source,
            })?;
            (listener.ok_or(taken)?, true)
        }
    };
    Ok(Entrance {
        claim,
        address,
        address_is_shared,
    })
}

/// Binds the admin address, on which the agent that has left the node may answer as long as it
/// drains: on a plain host, where it is one address for both.
async fn bind_freed(args: &RunArgs) -> Result<TcpListener, admin::Error> {
    let limit = Instant::now() + args.drain_timeout + GRACE;
    loop {
        match admin::bind_address(args.admin_address).await {
            Err(_taken) if Instant::now() < limit => sleep(PAUSE).await,
            bound => return bound,
        }
    }
}

/// What an agent says of itself that has nothing to show yet.
fn views(args: &RunArgs, waiting: Waiting) -> Views {
    let node = args.node_name.clone();
    let reasons = move || {
        let reason = waiting.reason();
        let reason = if reason.is_empty() {
            "waiting for the node".to_owned()
        } else {
            reason
        };
        vec![reason]
    };
    let ready = reasons.clone();
    let status = move || Status {
        overview: Overview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: node.clone(),
            pid: std::process::id(),
            state: "waiting".to_owned(),
            not_ready: reasons(),
            ..Overview::default()
        },
        pods: Vec::new(),
        services: Vec::new(),
        routes: Vec::new(),
        endpoints: Vec::new(),
        bpf: BpfStatus::default(),
        problems: Vec::new(),
        unknown_kinds: Vec::new(),
    };
    let shown = status.clone();
    Views {
        status: Box::new(status),
        explain: Box::new(|_query| Err("the agent does not serve yet".to_owned())),
        metrics: Box::new(move || metrics::encode(&Traffic::new(), &shown())),
        ready: Box::new(ready),
    }
}
