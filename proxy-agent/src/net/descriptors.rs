//! Messages with open files over a Unix socket (`SCM_RIGHTS`, unix(7)): bytes in, bytes out; what
//! they mean is for others.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Open files in one message at most (`SCM_MAX_FD`, include/net/scm.h).
pub const MAX_DESCRIPTORS: usize = 253;

/// Bytes in one message at most: names of the pods of [`MAX_DESCRIPTORS`] listeners take a tenth.
const MAX_BYTES: usize = 256 * 1024;

const HEADER_BYTES: usize = 4;

/// One message: its bytes, and the files that came with them.
pub type Message = (Vec<u8>, Vec<OwnedFd>);

/// A connection between two processes of one machine.
#[derive(Debug)]
pub struct DescriptorStream(UnixStream);

impl DescriptorStream {
    /// Speaks over a connected stream.
    pub const fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// User and process at the other end, when it connected or listened (`SO_PEERCRED`).
    ///
    /// # Errors
    ///
    /// The kernel cannot tell.
    pub fn other_end(&self) -> io::Result<(u32, Option<i32>)> {
        let credentials = self.0.peer_cred()?;
        Ok((credentials.uid(), credentials.pid()))
    }

    /// Sends one message. If it is given up half-way, the connection is of no more use.
    ///
    /// # Errors
    ///
    /// The other end is gone, or there are more than [`MAX_DESCRIPTORS`].
    pub async fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let message = [&length.to_le_bytes(), bytes].concat();
        let mut sent = self.write(&message, files).await?;
        while sent < message.len() {
            sent += self.write(&message[sent..], &[]).await?;
        }
        Ok(())
    }

    async fn write(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
                return Err(io::Error::from(io::ErrorKind::ArgumentListTooLong));
            }
            let bytes = [IoSlice::new(bytes)];
            Ok(sendmsg(&self.0, &bytes, &mut control, SendFlags::NOSIGNAL)?)
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next message; `None` when the other end has closed. If it is given up half-way, the
    /// connection is of no more use.
    ///
    /// # Errors
    ///
    /// The other end is gone in the middle of a message, or says too much; or the limit on open
    /// files keeps some out.
    pub async fn receive(&self) -> io::Result<Option<Message>> {
        let mut files = Vec::new();
        let mut header = [0; HEADER_BYTES];
        if !self.fill(&mut header, &mut files).await? {
            return Ok(None);
        }
        let length = usize::try_from(u32::from_le_bytes(header)).map_err(io::Error::other)?;
        if length > MAX_BYTES {
            return Err(io::Error::other("a message of more than 256 KiB"));
        }
        let mut bytes = vec![0; length];
        if length > 0 && !self.fill(&mut bytes, &mut files).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((bytes, files)))
    }

    /// Fills `bytes`; `false` if the other end had closed before the first of them.
    async fn fill(&self, bytes: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<bool> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read(&mut bytes[filled..], files).await? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(true)
    }

    async fn read(&self, bytes: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let receive = || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [IoSliceMut::new(&mut *bytes)];
            let read = recvmsg(&self.0, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    files.extend(received);
                }
            }
            if read.flags.contains(ReturnFlags::CTRUNC) {
                return Err(io::Error::other("the limit on open files keeps some out"));
            }
            Ok(read.bytes)
        };
        self.0.async_io(Interest::READABLE, receive).await
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (DescriptorStream, DescriptorStream) {
        let (one, other) = UnixStream::pair().unwrap();
        (DescriptorStream::new(one), DescriptorStream::new(other))
    }

    #[tokio::test]
    async fn bytes_and_open_files_arrive_together_and_in_order() {
        let (one, other) = pair();
        let (mut reader, writer) = io::pipe().unwrap();
        one.send(b"first", &[writer.as_fd()]).await.unwrap();
        one.send(b"second", &[]).await.unwrap();
        drop(writer);
        let (bytes, files) = other.receive().await.unwrap().unwrap();
        assert_eq!((&bytes[..], files.len()), (&b"first"[..], 1));
        for file in files {
            File::from(file).write_all(b"through it").unwrap();
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through it");
        let (bytes, files) = other.receive().await.unwrap().unwrap();
        assert_eq!((&bytes[..], files.len()), (&b"second"[..], 0));
        drop(one);
        assert!(other.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn as_many_files_as_the_kernel_takes_go_with_one_message() {
        let (one, other) = pair();
        let file = File::open("/dev/null").unwrap();
        let most = vec![file.as_fd(); MAX_DESCRIPTORS];
        one.send(b"all", &most).await.unwrap();
        let (_, files) = other.receive().await.unwrap().unwrap();
        assert_eq!(files.len(), MAX_DESCRIPTORS);
        let more = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
        assert!(one.send(b"too many", &more).await.is_err());
    }

    #[tokio::test]
    async fn a_message_that_is_cut_or_too_long_is_an_error() {
        use tokio::io::AsyncWriteExt;

        for (sent, what) in [
            (&[9, 0, 0, 0, b'x'][..], "cut"),
            (&[0, 0][..], "cut in its length"),
            (&[255, 255, 255, 255][..], "too long"),
        ] {
            let (mut one, other) = UnixStream::pair().unwrap();
            one.write_all(sent).await.unwrap();
            drop(one);
            assert!(
                DescriptorStream::new(other).receive().await.is_err(),
                "{what}"
            );
        }
    }

    #[tokio::test]
    async fn the_other_end_is_known() {
        let (one, _other) = pair();
        let (_user, process) = one.other_end().unwrap();
        assert_eq!(process, i32::try_from(std::process::id()).ok());
    }
}
