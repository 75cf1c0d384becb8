//! The least HTTP client that reads the agent's admin interface.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result};

/// An answer of the admin interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Body, as text.
    pub body: String,
}

/// How long an admin endpoint may take: it runs apart from the data path.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a GET as HTTP/1.0, so that the answer is neither chunked nor kept open.
///
/// # Errors
/// The stream broke, or what came is no HTTP.
pub fn get(mut stream: impl Read + Write, path: &str) -> Result<Reply> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n").context("send the request")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).context("read the answer")?;
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> Result<Reply> {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the answer has no end of head")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("no status line in {head:?}"))?;
    Ok(Reply {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() -> Result<()> {
        let reply = parse("HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\nnot yet\n")?;
        assert_eq!(
            reply,
            Reply {
                status: 503,
                body: "not yet\n".to_owned()
            }
        );
        assert!(parse("HTTP/1.0 200").is_err());
        Ok(())
    }
}
