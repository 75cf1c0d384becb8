//! The agent as the sender: which of its messages may be redirected to the application.
//!
//! Nobody tells what an application has read. What it has read by TCP is known when it sends, and
//! proves that everything before was read too, for redirected bytes are read first. Messages go
//! one way as a whole: a reader that stops after a short read would not hear of the rest, if it had
//! come by the other way already.

use proxy_ebpf::WINDOW_BYTES;

use super::Channel;

/// What has become of the bytes that the agent sent on one connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outgoing {
    /// Bytes that went by TCP, when the last message began.
    by_tcp: u64,
    /// Offset behind the last byte that went by TCP.
    last_by_tcp: u64,
    /// Bytes that the application is known to have read.
    verified: u64,
}

impl Outgoing {
    /// Decides for a message of at most `size` bytes; `None` if its size is not known. `written`
    /// bytes were sent before it.
    pub fn begin(&mut self, channel: &Channel, written: u64, size: Option<u64>) {
        let redirected = channel.redirected();
        let proven = |by_tcp| channel.has_read_by_tcp(by_tcp);
        channel.permit(self.permit(written, redirected, size, proven));
    }

    /// How many bytes may be redirected: all of the message, or none.
    fn permit(
        &mut self,
        written: u64,
        redirected: u64,
        size: Option<u64>,
        has_read_by_tcp: impl FnOnce(u64) -> bool,
    ) -> u64 {
        let by_tcp = written.saturating_sub(redirected);
        if by_tcp != self.by_tcp {
            self.by_tcp = by_tcp;
            self.last_by_tcp = written;
        }
        if self.last_by_tcp > self.verified {
            if !has_read_by_tcp(by_tcp) {
                return 0;
            }
            self.verified = self.last_by_tcp;
        }
        let unread = written.saturating_sub(self.verified);
        let fits = |size: &u64| unread.saturating_add(*size) <= WINDOW_BYTES;
        size.filter(fits).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREAD: fn(u64) -> bool = |_| false;

    #[test]
    fn what_went_by_tcp_must_have_been_read_before_anything_is_redirected() {
        let mut outgoing = Outgoing::default();
        assert_eq!(outgoing.permit(500, 0, Some(10), UNREAD), 0);
        assert_eq!(outgoing.permit(500, 0, Some(10), |read| read == 499), 0);
        assert_eq!(outgoing.permit(500, 0, Some(10), |read| read == 500), 10);
    }

    #[test]
    fn a_window_and_no_more_is_redirected_without_proof() {
        let mut outgoing = Outgoing::default();
        assert_eq!(outgoing.permit(0, 0, Some(WINDOW_BYTES + 1), UNREAD), 0);
        assert_eq!(
            outgoing.permit(0, 0, Some(WINDOW_BYTES), UNREAD),
            WINDOW_BYTES
        );
        let sent = WINDOW_BYTES - 7;
        assert_eq!(outgoing.permit(sent, sent, Some(7), UNREAD), 7);
        assert_eq!(outgoing.permit(sent, sent, Some(8), UNREAD), 0);
        // It went by TCP, and was read: the window is whole again.
        let sent_by_tcp = sent + 8;
        assert_eq!(outgoing.permit(sent_by_tcp, sent, Some(1), UNREAD), 0);
        let read = |bytes| bytes == 8;
        assert_eq!(
            outgoing.permit(sent_by_tcp, sent, Some(WINDOW_BYTES), read),
            WINDOW_BYTES
        );
    }

    #[test]
    fn a_message_of_unknown_size_goes_by_tcp() {
        let mut outgoing = Outgoing::default();
        assert_eq!(outgoing.permit(0, 0, None, UNREAD), 0);
        assert_eq!(outgoing.permit(0, 0, Some(u64::MAX), UNREAD), 0);
    }

    #[test]
    fn a_count_of_the_kernel_that_is_too_high_ends_in_tcp() {
        let mut outgoing = Outgoing::default();
        assert_eq!(outgoing.permit(100, 120, Some(1), UNREAD), 1);
        let honest = |bytes| bytes == 50;
        assert_eq!(outgoing.permit(150, 120, Some(1), honest), 0);
    }
}
