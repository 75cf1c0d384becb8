//! Sockets in namespaces that are not the caller's.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use proxy_agent::net::{ListenError, Netns, bind_listeners, connect};

use crate::fixture::{CAPTURE, Fixture, Process, alone};

const UID: &str = "net";
const LIMIT: Duration = Duration::from_secs(10);

/// A namespace with its loopback up, told by the listener that capture could bind.
async fn pod(fixture: &Fixture) -> (Process, Netns) {
    fixture.decide(UID, Some(CAPTURE));
    let process = Process::sandbox(&fixture.root.dir(&format!("pod{UID}")));
    fixture.captured(UID).await;
    let netns = process.netns();
    (process, netns)
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_connection_is_made_in_the_pod_and_the_thread_is_home_again() {
    alone(async {
        let fixture = Fixture::start();
        let (_process, netns) = pod(&fixture).await;
        let home = Netns::current().unwrap();
        let listener = netns.run(|| TcpListener::bind("127.0.0.1:0")).unwrap();
        let to: SocketAddr = listener.local_addr().unwrap();

        let stream = connect(&netns, &home, to, LIMIT).await.unwrap();

        let (_accepted, from) = listener.accept().unwrap();
        assert_eq!(from, stream.local_addr().unwrap());
        assert!(Netns::current().unwrap().is_same(&home));
        let error = connect(&home, &home, to, LIMIT).await.unwrap_err();
        assert_eq!(
            error.reason(),
            "refused",
            "the same address from the node is another one"
        );
    });
}

#[test]
#[ignore = "needs root: cargo xtask e2e"]
fn a_namespace_whose_loopback_is_down_is_unreachable_and_cannot_be_listened_in() {
    alone(async {
        let fixture = Fixture::start();
        let dir = fixture.root.dir("other");
        let process = Process::start(&dir, "exec unshare --net sleep 600");
        let home = Netns::current().unwrap();
        let netns = process.own_netns().await;
        let error = bind_listeners(&netns, &[15001], 1).unwrap_err();
        assert!(matches!(error, ListenError::LoopbackDown), "{error}");
        let to = "10.0.0.1:80".parse().unwrap();
        let error = connect(&netns, &home, to, LIMIT).await.unwrap_err();
        assert_eq!(error.reason(), "unreachable");
    });
}
