//! nginx in a pod: a server that is not of this workspace.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::pod::Pod;

/// What every path answers that is no file.
pub const NGINX_BODY: &str = "{\"message\":\"thirty-six bytes, that is\"}";

impl Pod {
    /// Serves the files of `scratch/files` under `/files/`, and [`NGINX_BODY`] everywhere else.
    ///
    /// # Errors
    /// nginx is not installed or does not come up.
    pub fn serve_nginx(&self, port: u16, scratch: &Path) -> Result<()> {
        self.nginx(port, None, scratch)
    }

    /// The same, and HTTP/2 by prior knowledge on a port of its own.
    ///
    /// # Errors
    /// As [`Pod::serve_nginx`].
    pub fn serve_nginx_http2(&self, port: u16, http2_port: u16, scratch: &Path) -> Result<()> {
        self.nginx(port, Some(http2_port), scratch)
    }

    fn nginx(&self, port: u16, http2_port: Option<u16>, scratch: &Path) -> Result<()> {
        let http2 = http2_port.map(|port| format!("listen {port} http2 backlog=4096;"));
        let http2 = http2.unwrap_or_default();
        let root = scratch.display();
        let stem = format!("{root}/{}", self.name());
        let config = format!(
            "worker_processes 1;
            daemon off;
            user root;
            pid {stem}.pid;
            error_log stderr warn;
            events {{ worker_connections 4096; }}
            http {{
                access_log off;
                keepalive_requests 100000000;
                sendfile on;
                client_body_temp_path {stem}.body;
                proxy_temp_path {stem}.proxy;
                fastcgi_temp_path {stem}.fastcgi;
                uwsgi_temp_path {stem}.uwsgi;
                scgi_temp_path {stem}.scgi;
                server {{
                    listen {port} backlog=4096;
                    {http2}
                    location /files/ {{ root {root}; }}
                    location / {{ return 200 '{NGINX_BODY}'; }}
                }}
            }}"
        );
        let path = scratch.join(format!("{}.nginx.conf", self.name()));
        fs::write(&path, config)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&path);
        self.keep(self.spawn("nginx", command)?);
        let url = format!("http://127.0.0.1:{port}/");
        crate::until(&format!("nginx of {} answers", self.name()), || {
            Ok(self.status(&[&url]).is_ok_and(|status| status == 200))
        })
    }
}
