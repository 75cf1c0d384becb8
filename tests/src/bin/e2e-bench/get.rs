//! GET over one kept HTTP/1.1 connection, blocking: no runtime adds its own time to what is
//! measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Uri;

/// Nothing that is measured takes this long.
const LIMIT: Duration = Duration::from_secs(10);

/// A connection, and the request that is sent on it again and again.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects to the address that `url` names; it is a number.
    pub(crate) fn open(url: &Uri) -> Result<Self> {
        let authority = url.authority().context("the URL has no host")?.as_str();
        let host = url.host().context("the URL has no host")?;
        let address = SocketAddr::new(host.parse()?, url.port_u16().unwrap_or(80));
        let stream =
            TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let request = format!("GET {} HTTP/1.1\r\nHost: {authority}\r\n\r\n", url.path());
        Ok(Self {
            stream,
            request: request.into_bytes(),
            answer: Vec::with_capacity(4 * 1_024),
        })
    }

    /// Sends the request and returns the body of the answer, which has a length and is a 200.
    pub(crate) fn get(&mut self) -> Result<&[u8]> {
        self.stream.write_all(&self.request).context("send")?;
        self.answer.clear();
        let body = loop {
            self.read()?;
            let end = self.answer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
        };
        let head = String::from_utf8_lossy(&self.answer[..body]).to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200 "), "the answer is {head}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length
            .context("an answer without a length")?
            .trim()
            .parse()?;
        while self.answer.len() < body + length {
            self.read()?;
        }
        Ok(&self.answer[body..])
    }

    fn read(&mut self) -> Result<()> {
        let mut bytes = [0; 4 * 1_024];
        let read = self.stream.read(&mut bytes).context("read")?;
        ensure!(
            read > 0,
            "the connection was closed in the middle of an answer"
        );
        self.answer.extend_from_slice(&bytes[..read]);
        Ok(())
    }
}
