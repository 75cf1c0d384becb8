//! What steered sockets keep, as the programs wrote it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use proxy_ebpf::{SocketCell, SocketDst};

use super::{Error, Kernel};

impl Kernel {
    /// The map that holds what steered sockets keep in storage of their own: see [`Self::steered`].
    pub fn socket_storage(&self) -> BorrowedFd<'_> {
        self.maps.socket_dst.as_fd()
    }

    /// The Service address and the endpoint of a direct connection: from the cell that its socket has by
    /// its cookie, or else from the socket's own storage.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn steered(
        &self,
        cookie: u64,
        storage: Option<&[u8]>,
    ) -> Result<Option<(SocketAddr, SocketAddr)>, Error> {
        let cell = self.maps.socket_cells.read(&SocketCell::index(cookie))?;
        let in_cell = cell.filter(|cell| cell.owner == cookie);
        let kept = in_cell.map(|cell| cell.kept);
        let kept = kept.or_else(|| storage.and_then(SocketDst::read));
        Ok(kept.and_then(|kept| kept.steered()))
    }
}
