//! Who may do what in a cluster: certificates of its ends and tokens of its users.
//!
//! The cluster is of this machine and of this day; nothing here is a secret.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::home::{self, Home};

/// Whose token this is, and the group that gives it its rights.
#[derive(Clone, Copy, Debug)]
pub(super) struct User<'a> {
    /// The stem of the kubeconfig.
    pub(super) file: &'a str,
    pub(super) name: &'a str,
    pub(super) group: &'a str,
}

/// The names by which pods and nodes reach the API server.
const API_NAMES: &str = "subjectAltName=IP:10.99.0.1,IP:10.96.0.1,IP:127.0.0.1,DNS:localhost,\
     DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc";

/// Makes the certificates, once for each cluster.
pub(super) fn certificates(home: &Home) -> Result<()> {
    let pki = home.pki();
    fs::create_dir_all(&pki).context("create the folder of certificates")?;
    openssl(&pki, "genrsa -out service-accounts.key 2048")?;
    let own = format!("req -x509 -days 30 {NEW} -keyout ca.key -out ca.crt -subj /CN=cluster");
    openssl(&pki, &own)?;
    signed(&pki, "api", "/CN=kube-apiserver", API_NAMES)?;
    let usage = "extendedKeyUsage=clientAuth";
    signed(
        &pki,
        "to-kubelets",
        "/O=system:masters/CN=kube-apiserver",
        usage,
    )
}

/// Options of a new key: small, and made at once.
const NEW: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn signed(pki: &Path, name: &str, subject: &str, extension: &str) -> Result<()> {
    let request = format!("req {NEW} -keyout {name}.key -out {name}.csr -subj {subject}");
    openssl(pki, &request)?;
    home::write(&pki.join(format!("{name}.ext")), extension)?;
    let sign = format!(
        "x509 -req -days 30 -in {name}.csr -out {name}.crt -CA ca.crt -CAkey ca.key -CAcreateserial -extfile {name}.ext"
    );
    openssl(pki, &sign)
}

fn openssl(folder: &Path, words: &str) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.current_dir(folder).args(words.split(' '));
    let output = openssl.output().context("run openssl")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl {words}: {complaint}");
    Ok(())
}

/// Gives a user a token and a kubeconfig. The API server reads tokens when it starts.
pub(super) fn admit(home: &Home, user: User<'_>) -> Result<()> {
    let User { file, name, group } = user;
    let token = format!("token-of-{file}");
    let tokens = home.pki().join("tokens.csv");
    let mut tokens = OpenOptions::new()
        .create(true)
        .append(true)
        .open(tokens)
        .context("open the list of tokens")?;
    writeln!(tokens, "{token},{name},{name},\"{group}\"").context("add a token")?;
    let template = include_str!("../../cluster/control-plane/kubeconfig.yaml");
    let text = home.fill(template, &[("@TOKEN@", &token)]);
    home::write(&home.kubeconfig(file), &text)
}
