//! An etcd and a kube-apiserver of a test's own, on loopback ports that were free.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

/// The folder of kube-apiserver and etcd, if it is not the one that `cargo xtask setup --cluster` fills.
const BINARIES: &str = "PROXY_AGENT_CLUSTER_BIN";
/// An API server starts in 5 s on an idle core, in more on a busy one.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum User {
    /// May do everything.
    Admin,
    /// May do what its roles say.
    Agent,
}

/// A running API server; ended on drop.
pub(crate) struct ApiServer {
    directory: PathBuf,
    port: u16,
    etcd_port: u16,
    _etcd: Process,
    server: Mutex<Option<Process>>,
}

impl ApiServer {
    /// One that tests share while any of them runs.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<ApiServer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// One of a test's own.
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pa-{}-api{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let [port, etcd_port, peer_port] = free_ports();
        let tokens = "admin-token,admin,admin,system:masters\nagent-token,agent,agent\n";
        fs::write(directory.join("tokens.csv"), tokens).unwrap();
        let key = directory.join("sa.key");
        let made = Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(&key)
            .arg("2048")
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut etcd = binary("etcd");
        etcd.arg("--data-dir").arg(directory.join("etcd"));
        etcd.args(["--unsafe-no-fsync", "--log-level=error"]);
        for (flag, port) in [("client", etcd_port), ("peer", peer_port)] {
            etcd.arg(format!("--listen-{flag}-urls=http://127.0.0.1:{port}"));
            let advertise = if flag == "peer" {
                "initial-advertise-peer"
            } else {
                "advertise-client"
            };
            etcd.arg(format!("--{advertise}-urls=http://127.0.0.1:{port}"));
        }
        etcd.arg(format!(
            "--initial-cluster=default=http://127.0.0.1:{peer_port}"
        ));
        let etcd = Process::spawn(etcd, &directory.join("etcd.log"));
        let server = Self {
            directory,
            port,
            etcd_port,
            _etcd: etcd,
            server: Mutex::default(),
        };
        server.run_server();
        server
    }

    /// Port of the API server.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Port of etcd.
    pub(crate) fn etcd_port(&self) -> u16 {
        self.etcd_port
    }

    /// Kills the API server; etcd goes on.
    pub(crate) fn kill(&self) {
        drop(self.lock().take());
    }

    /// Starts the API server that was killed, on the same port.
    pub(crate) fn run_server(&self) {
        let mut server = binary("kube-apiserver");
        let at = |name: &str| self.directory.join(name).display().to_string();
        server.args([
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--secure-port={}", self.port),
            format!("--cert-dir={}", at("certs")),
            format!("--token-auth-file={}", at("tokens.csv")),
            format!("--service-account-key-file={}", at("sa.key")),
            format!("--service-account-signing-key-file={}", at("sa.key")),
        ]);
        server.args([
            "--bind-address=127.0.0.1",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
        ]);
        let mut running = Process::spawn(server, &self.directory.join("kube-apiserver.log"));
        let deadline = Instant::now() + START_LIMIT;
        while !self.is_ready() {
            assert!(running.is_running(), "{}", self.log());
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        *self.lock() = Some(running);
    }

    /// A client's configuration for `user`; by way of `port`, if that is given.
    pub(crate) async fn config(&self, user: User, port: Option<u16>) -> Config {
        let token = match user {
            User::Admin => "admin-token",
            User::Agent => "agent-token",
        };
        let server = format!("https://127.0.0.1:{}", port.unwrap_or(self.port));
        let authority = self.directory.join("certs/apiserver.crt");
        let config = json!({
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "clusters": [{"name": "c", "cluster": {
                "server": server, "certificate-authority": authority,
            }}],
        });
        let config: Kubeconfig = serde_json::from_value(config).unwrap();
        let options = KubeConfigOptions::default();
        Config::from_custom_kubeconfig(config, &options)
            .await
            .unwrap()
    }

    /// A client that may do everything.
    pub(crate) async fn admin(&self) -> Client {
        let config = self.config(User::Admin, None).await;
        proxy_agent::source::kubernetes::client(config).unwrap()
    }

    fn is_ready(&self) -> bool {
        let authority = self.directory.join("certs/apiserver.crt");
        let ready = Command::new("curl")
            .args([
                "-sf",
                "-m",
                "2",
                "-H",
                "Authorization: Bearer admin-token",
                "--cacert",
            ])
            .arg(authority)
            .arg(format!("https://127.0.0.1:{}/readyz", self.port))
            .output();
        ready.is_ok_and(|ready| ready.status.success())
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.join("kube-apiserver.log"));
        let log = log.unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        format!("the API server did not start: {lines:#?}")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // What stays behind is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A process that ends with this one, however this one ends.
struct Process(Child);

impl Process {
    fn spawn(command: Command, log: &Path) -> Self {
        // The shell's input closes with us; then it kills what it started.
        let script = "\"$@\" & echo $!; cat >/dev/null; kill -9 $!; wait";
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = shell.spawn().unwrap();
        let mut pid = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut pid).unwrap();
        Self(child)
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|ended| ended.is_none())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

fn binary(name: &str) -> Command {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let usual = workspace.join("target/cluster/bin");
    let folder = std::env::var_os(BINARIES).map_or(usual, PathBuf::from);
    let found = folder.join(name);
    let why = "run `cargo xtask setup --cluster`, or name their folder in";
    assert!(
        found.is_file(),
        "there is no {}: {why} {BINARIES}",
        found.display()
    );
    Command::new(found)
}

fn free_ports() -> [u16; 3] {
    // All at once, so that they differ.
    let bound = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    bound.map(|socket| socket.local_addr().unwrap().port())
}
