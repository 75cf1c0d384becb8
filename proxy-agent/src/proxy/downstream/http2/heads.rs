//! Whether an HTTP/2 client is in the middle of a head, told from its frames alone.
//!
//! h2 has no timer for heads that come in pieces, so the connection's bytes are looked at on their
//! way: frame headers only, payloads are counted off (RFC 9113, sections 4.1, 6.2, 6.10).

use std::rc::Rc;

use crate::proxy::wire::Watch;

use super::clock::Clock;

/// The client's connection preface.
const PREFACE_BYTES: usize = 24;
/// A frame header: length (24 bits), type, flags, stream.
const HEADER_BYTES: usize = 9;
const TYPE_HEADERS: u8 = 1;
const TYPE_CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Tells the clock of one client's connection about heads that are unfinished.
#[derive(Debug)]
pub(super) struct HeadWatch {
    clock: Rc<Clock>,
    frames: Frames,
}

impl HeadWatch {
    pub(super) const fn new(clock: Rc<Clock>) -> Self {
        Self {
            clock,
            frames: Frames::new(),
        }
    }
}

impl Watch for HeadWatch {
    fn has_read(&mut self, bytes: &[u8]) {
        self.clock.received(self.frames.feed(bytes));
    }
}

/// Follows the frames of one client.
#[derive(Debug)]
struct Frames {
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    header: [u8; HEADER_BYTES],
    /// How much of `header` is there.
    filled: usize,
    in_head: bool,
    /// The payload being skipped is the last of its head.
    ends: bool,
}

impl Frames {
    const fn new() -> Self {
        Self {
            skip: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            filled: 0,
            in_head: false,
            ends: false,
        }
    }

    /// Takes what was received, in any pieces. Returns whether a head is unfinished after it.
    fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
            } else {
                let wanted = (HEADER_BYTES - self.filled).min(bytes.len());
                let (header, rest) = bytes.split_at(wanted);
                self.header[self.filled..self.filled + wanted].copy_from_slice(header);
                self.filled += wanted;
                bytes = rest;
                if self.filled == HEADER_BYTES {
                    self.frame();
                }
            }
            if self.skip == 0 && self.ends {
                self.in_head = false;
                self.ends = false;
            }
        }
        self.in_head
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.filled = 0;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if matches!(kind, TYPE_HEADERS | TYPE_CONTINUATION) {
            self.in_head = true;
            self.ends = flags & END_HEADERS != 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.extend(vec![0xff; usize::from(length)]);
        bytes
    }

    fn preface() -> Vec<u8> {
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()
    }

    #[test]
    fn a_head_in_one_frame_is_finished_at_once() {
        let mut watch = Frames::new();
        let bytes = [preface(), frame(4, 0, 6), frame(TYPE_HEADERS, 5, 20)].concat();
        assert!(!watch.feed(&bytes));
    }

    #[test]
    fn a_head_without_its_end_is_unfinished_whatever_comes_after() {
        let mut watch = Frames::new();
        watch.feed(&preface());
        assert!(watch.feed(&frame(TYPE_HEADERS, 1, 20)));
        assert!(watch.feed(&frame(TYPE_CONTINUATION, 0, 3)));
        assert!(!watch.feed(&frame(TYPE_CONTINUATION, END_HEADERS, 3)));
    }

    #[test]
    fn pings_and_bodies_are_no_heads() {
        let mut watch = Frames::new();
        watch.feed(&preface());
        // A payload that looks like a HEADERS frame, and a flag that means something else here.
        assert!(!watch.feed(&frame(0, 1, 200)));
        assert!(!watch.feed(&frame(6, 0, 8)));
        assert!(!watch.feed(&frame(4, 0, 0)));
    }

    #[test]
    fn every_split_gives_the_same_answer() {
        let whole = [
            preface(),
            frame(0, 0, 9),
            frame(TYPE_HEADERS, END_HEADERS, 4),
        ]
        .concat();
        for split in 0..whole.len() {
            let mut watch = Frames::new();
            watch.feed(&whole[..split]);
            let begun = split >= whole.len() - 4;
            assert_eq!(watch.feed(&[]), begun && split < whole.len(), "{split}");
            assert!(!watch.feed(&whole[split..]), "{split}");
        }
    }

    #[test]
    fn an_empty_last_frame_ends_its_head() {
        let mut watch = Frames::new();
        watch.feed(&preface());
        assert!(watch.feed(&frame(TYPE_HEADERS, 0, 5)));
        assert!(!watch.feed(&frame(TYPE_CONTINUATION, END_HEADERS, 0)));
    }
}
