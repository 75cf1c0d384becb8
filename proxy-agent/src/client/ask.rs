//! One GET over the admin socket.

use std::error::Error as StdError;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::Error;

/// Time for the whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for `path` and returns the body of a 200.
pub(super) async fn get(socket: &Path, path: &str) -> Result<String, Error> {
    let stream = UnixStream::connect(socket).await.map_err(|source| {
        let path = socket.to_owned();
        if source.kind() == ErrorKind::NotFound {
            Error::Absent { path }
        } else if source.kind() == ErrorKind::ConnectionRefused {
            Error::Gone { path }
        } else {
            Error::Open { path, source }
        }
    })?;
    let silent = |source| Error::Silent {
        path: socket.to_owned(),
        what: path.to_owned(),
        source,
    };
    let answer = tokio::time::timeout(TIMEOUT, exchange(stream, path));
    let (status, body) = match answer.await {
        Ok(exchanged) => exchanged.map_err(silent)?,
        Err(elapsed) => return Err(silent(elapsed.into())),
    };
    if status == StatusCode::OK {
        Ok(body)
    } else {
        Err(Error::Refused {
            reason: body.trim_end().to_owned(),
        })
    }
}

async fn exchange(
    stream: UnixStream,
    path: &str,
) -> Result<(StatusCode, String), Box<dyn StdError + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header("host", "proxy-agent")
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        // The connection ends when its last sender does.
        drop(sender);
        Ok::<_, hyper::Error>((status, body))
    };
    let (answered, ended) = tokio::join!(exchange, connection);
    let (status, body) = answered?;
    ended?;
    Ok((status, String::from_utf8(body.to_vec())?))
}
