//! A socket's file: made under a temporary name with mode 0600 and renamed into place, so
//! that nobody ever finds it half made; removed at the end only if it is still this process's.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::Error;

/// The file of a bound socket. Dropping it removes the file, unless another has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    pub(super) path: PathBuf,
    /// Device and inode, which tell whose file it is.
    identity: (u64, u64),
}

impl SocketFile {
    /// Renames the file to `path`, in place of whatever is there.
    pub(crate) fn place(mut self, path: &Path) -> Result<Self, Error> {
        fs::rename(&self.path, path).map_err(|source| Error::Socket {
            step: "put in place",
            path: path.to_owned(),
            source,
        })?;
        path.clone_into(&mut self.path);
        Ok(self)
    }

    /// Leaves the file where it is, for another process to put its own in its place.
    pub(crate) fn leave(self) {
        // Only the removal is left out; a path is all that it holds.
        std::mem::forget(self);
    }
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
pub(crate) async fn bind(path: &Path) -> Result<(UnixListener, SocketFile), Error> {
    refuse_if_taken(path).await?;
    let (listener, file) = prepare(path)?;
    Ok((listener, file.place(path)?))
}

/// Binds a socket beside `path`, to be put there with [`SocketFile::place`], whoever answers there
/// now.
pub(crate) fn prepare(path: &Path) -> Result<(UnixListener, SocketFile), Error> {
    let fail = |step| {
        move |source| Error::Socket {
            step,
            path: path.to_owned(),
            source,
        }
    };
    if let Some(parent) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(parent);
        made.map_err(fail("make the directory of"))?;
    }
    // One name for all: what an agent leaves that dies half-way is gone with the next start. Only
    // the agent that has the node's lock, or the one successor that it serves, comes here.
    let temporary = path.with_added_extension("new");
    drop(fs::remove_file(&temporary));
    let listener = UnixListener::bind(&temporary).map_err(fail("bind"))?;
    let file = SocketFile {
        identity: identity(&temporary).map_err(fail("look at"))?,
        path: temporary,
    };
    let private = fs::set_permissions(&file.path, Permissions::from_mode(0o600));
    private.map_err(fail("set the mode of"))?;
    Ok((listener, file))
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
