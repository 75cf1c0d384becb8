//! The admin server over real sockets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1 as client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::*;
use crate::status::{BpfStatus, Overview, PodStatus};

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("proxy-agent-admin-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn options(&self) -> Options {
        Options {
            socket: self.0.join("agent.sock"),
            address: "127.0.0.1:0".parse().unwrap(),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn status() -> Status {
    Status {
        overview: Overview {
            node: "n1".into(),
            ..Overview::default()
        },
        pods: vec![PodStatus {
            name: "web".into(),
            ..PodStatus::default()
        }],
        services: vec![],
        routes: vec![],
        endpoints: vec![],
        bpf: BpfStatus::default(),
        problems: vec![],
        unknown_kinds: vec![],
    }
}

/// A server whose readiness the test decides.
struct Running {
    address: SocketAddr,
    not_ready: Arc<Mutex<Vec<String>>>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(options: Options) -> Self {
        let not_ready = Arc::new(Mutex::new(Vec::new()));
        let reasons = Arc::clone(&not_ready);
        let views = Views {
            status: Box::new(status),
            explain: Box::new(|query| match &*query.pod {
                "web" => Ok(Explanation {
                    from: format!("{}/{}", query.namespace, query.pod),
                    ..Explanation::default()
                }),
                other => Err(format!("no pod {other}")),
            }),
            metrics: Box::new(|| Ok("# EOF\n".to_owned())),
            ready: Box::new(move || {
                reasons
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone()
            }),
        };
        let server = Server::bind(options).await.unwrap();
        let address = server.tcp.as_ref().unwrap().local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(Arc::new(views), shutdown.clone()));
        Self {
            address,
            not_ready,
            shutdown,
            task,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

async fn ask<S>(stream: S, method: Method, path: &str) -> (StatusCode, String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "agent");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn ask_unix(directory: &Directory, path: &str) -> (StatusCode, String) {
    let stream = UnixStream::connect(directory.options().socket)
        .await
        .unwrap();
    ask(stream, Method::GET, path).await
}

#[tokio::test]
async fn the_socket_tells_everything() {
    let directory = Directory::new();
    let running = Running::start(directory.options()).await;
    let (code, body) = ask_unix(&directory, "/status").await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(serde_json::from_str::<Status>(&body).unwrap(), status());
    let (_, body) = ask_unix(&directory, "/status/pods").await;
    let pods: Vec<PodStatus> = serde_json::from_str(&body).unwrap();
    assert_eq!(pods, status().pods);
    for path in ["services", "routes", "endpoints", "bpf"] {
        let (code, body) = ask_unix(&directory, &format!("/status/{path}")).await;
        assert_eq!(code, StatusCode::OK);
        serde_json::from_str::<serde_json::Value>(&body).unwrap();
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(ask_unix(&directory, path).await.0, StatusCode::OK);
    }
    running.stop().await;
}

#[tokio::test]
async fn the_address_tells_health_alone() {
    let directory = Directory::new();
    let running = Running::start(directory.options()).await;
    for (path, code) in [
        ("/metrics", StatusCode::OK),
        ("/healthz", StatusCode::OK),
        ("/readyz", StatusCode::OK),
        ("/status", StatusCode::NOT_FOUND),
        ("/status/pods", StatusCode::NOT_FOUND),
        ("/explain", StatusCode::NOT_FOUND),
    ] {
        let stream = TcpStream::connect(running.address).await.unwrap();
        let (found, body) = ask(stream, Method::GET, path).await;
        assert_eq!(found, code, "{path}");
        assert!(!body.contains("/status"), "{body}");
    }
    running.stop().await;
}

#[tokio::test]
async fn not_ready_says_why_a_reason_a_line() {
    let directory = Directory::new();
    let running = Running::start(directory.options()).await;
    *running.not_ready.lock().unwrap() = vec!["connect4 is detached".into(), "no sync".into()];
    let (code, body) = ask_unix(&directory, "/readyz").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "connect4 is detached\nno sync\n");
    running.stop().await;
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_right() {
    let directory = Directory::new();
    let running = Running::start(directory.options()).await;
    let (code, body) = ask_unix(&directory, "/nothing").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    assert!(
        body.contains("/status/pods") && body.contains("/readyz"),
        "{body}"
    );
    let stream = UnixStream::connect(directory.options().socket)
        .await
        .unwrap();
    let (code, _) = ask(stream, Method::POST, "/status").await;
    assert_eq!(code, StatusCode::METHOD_NOT_ALLOWED);
    running.stop().await;
}

#[tokio::test]
async fn explain_answers_or_says_why_not() {
    let directory = Directory::new();
    let running = Running::start(directory.options()).await;
    let query = "method=GET&url=http://cart/";
    let (code, body) = ask_unix(&directory, &format!("/explain?from=shop/web&{query}")).await;
    assert_eq!(code, StatusCode::OK);
    let explanation: Explanation = serde_json::from_str(&body).unwrap();
    assert_eq!(explanation.from, "shop/web");
    let (code, body) = ask_unix(&directory, &format!("/explain?from=shop/job&{query}")).await;
    assert_eq!((code, &*body), (StatusCode::BAD_REQUEST, "no pod job\n"));
    let (code, body) = ask_unix(&directory, "/explain").await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(body.contains("`from` is missing"), "{body}");
    running.stop().await;
}

#[tokio::test]
async fn the_socket_is_private_and_removed_at_the_end() {
    let directory = Directory::new();
    let socket = directory.options().socket;
    let running = Running::start(directory.options()).await;
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    running.stop().await;
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
}

#[tokio::test]
async fn a_socket_that_answers_is_not_taken_over() {
    let directory = Directory::new();
    let running = Running::start(directory.options()).await;
    let error = Server::bind(directory.options()).await.unwrap_err();
    assert!(matches!(error, Error::SocketInUse { .. }), "{error}");
    assert!(error.to_string().contains("--admin-socket"));
    assert_eq!(ask_unix(&directory, "/healthz").await.0, StatusCode::OK);
    running.stop().await;
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let directory = Directory::new();
    drop(UnixListener::bind(directory.options().socket).unwrap());
    let running = Running::start(directory.options()).await;
    assert_eq!(ask_unix(&directory, "/healthz").await.0, StatusCode::OK);
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let directory = Directory::new();
    fs::write(directory.options().socket, "precious").unwrap();
    let error = Server::bind(directory.options()).await.unwrap_err();
    assert!(matches!(error, Error::NotASocket { .. }), "{error}");
    assert_eq!(fs::read(directory.options().socket).unwrap(), b"precious");
}

#[tokio::test]
async fn a_successors_socket_is_not_removed() {
    let directory = Directory::new();
    let socket = directory.options().socket;
    let running = Running::start(directory.options()).await;
    fs::remove_file(&socket).unwrap();
    let successor = UnixListener::bind(&socket).unwrap();
    running.stop().await;
    assert!(socket.exists());
    drop(successor);
}

#[tokio::test]
async fn a_successor_takes_the_socket_over_without_a_moment_in_which_nobody_answers() {
    let directory = Directory::new();
    let socket = directory.options().socket;
    let running = Running::start(directory.options()).await;
    let (unix, file) = socket::prepare(&socket).unwrap();
    assert_eq!(ask_unix(&directory, "/healthz").await.0, StatusCode::OK);
    let mode = fs::metadata(&file.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let file = file.place(&socket).unwrap();
    running.stop().await;

    let connecting = UnixStream::connect(&socket);
    let (accepted, connected) = tokio::join!(unix.accept(), connecting);
    assert!(
        accepted.is_ok() && connected.is_ok(),
        "the former one left it"
    );
    drop(file);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_socket_that_is_never_put_in_place_leaves_nothing() {
    let directory = Directory::new();
    let prepared = socket::prepare(&directory.options().socket).unwrap();
    assert_eq!(
        fs::read_dir(&directory.0).unwrap().count(),
        1,
        "the control"
    );
    drop(prepared);
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let directory = Directory::new();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let options = Options {
        address,
        ..directory.options()
    };
    let error = Server::bind(options).await.unwrap_err().to_string();
    assert!(
        error.contains(&address.to_string()) && error.contains("--admin-address"),
        "{error}"
    );
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_short() {
    let directory = Directory::new();
    let running = Running::start(directory.options()).await;
    let mut stream = UnixStream::connect(directory.options().socket)
        .await
        .unwrap();
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(2 * MAX_HEAD_BYTES));
    stream.write_all(long.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    let status = std::str::from_utf8(&answer[9..]).unwrap();
    assert!(["414", "431"].contains(&status), "{status}");
    running.stop().await;
}

#[tokio::test]
async fn idle_connections_do_not_keep_others_out_for_ever() {
    let directory = Directory::new();
    let running = Running::start(directory.options()).await;
    let socket = directory.options().socket;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        idle.push(UnixStream::connect(&socket).await.unwrap());
    }
    let late = ask_unix(&directory, "/healthz");
    tokio::pin!(late);
    let moment = Duration::from_millis(200);
    assert!(tokio::time::timeout(moment, &mut late).await.is_err());
    drop(idle);
    assert_eq!(late.await.0, StatusCode::OK);
    running.stop().await;
}
