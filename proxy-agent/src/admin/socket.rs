//! The admin socket's file: made under a temporary name with mode 0600 and renamed into place, so
//! that nobody ever finds it half made; removed at the end only if it is still this process's.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use tokio::net::{UnixListener, UnixStream};

use super::Error;

/// The file of a bound socket. Dropping it removes the file, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode, which tell whose file it is.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = identity(&self.path).is_ok_and(|found| found == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the admin socket");
        }
    }
}

/// Binds `path`, in place of a stale socket if there is one.
pub(super) async fn bind(path: PathBuf) -> Result<(UnixListener, SocketFile), Error> {
    refuse_if_taken(&path).await?;
    let fail = |step| {
        let path = path.clone();
        move |source| Error::Socket { step, path, source }
    };
    if let Some(parent) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(parent);
        made.map_err(fail("make the directory of"))?;
    }
    let temporary = path.with_added_extension(process::id().to_string());
    let listener = UnixListener::bind(&temporary).map_err(fail("bind"))?;
    let placed = fs::set_permissions(&temporary, Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| identity(&path));
    match placed {
        Ok(identity) => Ok((listener, SocketFile { path, identity })),
        Err(source) => {
            // Already failing; a file that cannot be removed either adds nothing to the message.
            drop(fs::remove_file(&temporary));
            Err(fail("put in place")(source))
        }
    }
}

/// A path may be taken over if nothing is there, or a socket on which nobody answers.
async fn refuse_if_taken(path: &Path) -> Result<(), Error> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(Error::Socket {
                step: "look at",
                path: path.to_owned(),
                source,
            });
        }
    };
    if !found.file_type().is_socket() {
        return Err(Error::NotASocket {
            path: path.to_owned(),
        });
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(Error::SocketInUse {
            path: path.to_owned(),
        }),
        Err(source) => Err(Error::Socket {
            step: "probe",
            path: path.to_owned(),
            source,
        }),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}
