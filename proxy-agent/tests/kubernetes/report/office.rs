//! The Lease: who holds it, when it is taken, and when it is given up.

use std::time::Duration;

use kube::api::Api;
use proxy_agent::report::{Candidate, LeaseView, Terms};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::api_server::{ApiServer, User};
use crate::fixture::{PATIENCE, apply, namespace};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn an_office_that_is_not_renewed_is_taken_and_only_then() {
    let server = ApiServer::shared();
    let admin = server.admin().await;
    apply(&admin, namespace("office")).await;
    let terms = Terms {
        term: Duration::from_secs(2),
        look: Duration::from_millis(200),
        answer: Duration::from_secs(1),
    };
    let stand = |name: &str| {
        let candidate = Candidate::new(admin.clone(), "office", name, terms, LeaseView::default());
        let elected = candidate.elected();
        let task = tokio::spawn(async move { candidate.run(&CancellationToken::new()).await });
        (elected, task)
    };
    let (mut first, holding) = stand("a");
    timeout(PATIENCE, first.wait_for(|elected| *elected))
        .await
        .unwrap()
        .unwrap();
    let (mut second, _waiting) = stand("b");
    let early = timeout(terms.term * 2, second.wait_for(|elected| *elected))
        .await
        .is_ok();
    assert!(!early, "it is renewed all the time");
    // Without a farewell, as of a process that was killed.
    holding.abort();
    timeout(PATIENCE, second.wait_for(|elected| *elected))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn an_office_is_given_up_at_the_end_and_shown_until_then() {
    let server = ApiServer::shared();
    let admin = server.admin().await;
    apply(&admin, namespace("leaving")).await;
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(admin.clone(), "leaving");
    let (view, stop) = (LeaseView::default(), CancellationToken::new());
    assert_eq!(view.status(), None);
    let candidate = Candidate::new(admin, "leaving", "a", Terms::default(), view.clone());
    let mut elected = candidate.elected();
    let ended = stop.clone();
    let task = tokio::spawn(async move { candidate.run(&ended).await });
    let won = timeout(PATIENCE, elected.wait_for(|elected| *elected));
    assert!(*won.await.unwrap().unwrap());
    let shown = view.status().unwrap();
    assert_eq!((&*shown.holder, &*shown.trouble), ("a", ""));
    let holder = || async {
        let lease = leases.get("proxy-agent").await.unwrap();
        lease.spec.unwrap().holder_identity
    };
    assert_eq!(holder().await.as_deref(), Some("a"), "the control");
    stop.cancel();
    timeout(PATIENCE, task).await.unwrap().unwrap();
    assert_eq!(
        holder().await,
        None,
        "the next one need not wait for its end"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs kube-apiserver and etcd: cargo xtask e2e --cluster"]
async fn an_office_that_may_not_be_looked_at_is_shown_as_such() {
    let server = ApiServer::shared();
    let config = server.config(User::Agent, None).await;
    let client = proxy_agent::source::kubernetes::client(config).unwrap();
    let view = LeaseView::default();
    let candidate = Candidate::new(client, "default", "a", Terms::default(), view.clone());
    let stop = CancellationToken::new();
    let shown = async {
        while view.status().is_none_or(|shown| shown.trouble.is_empty()) {
            sleep(Duration::from_millis(20)).await;
        }
        view.status().unwrap()
    };
    let shown = tokio::select! {
        shown = timeout(PATIENCE, shown) => shown.unwrap(),
        () = candidate.run(&stop) => panic!("it stands until it is stopped"),
    };
    assert!(shown.trouble.contains("forbidden"), "{shown:?}");
    assert_eq!(shown.holder, "");
}
