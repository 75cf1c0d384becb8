//! A buffer of each thread for what a condition puts together before it looks at it: no request
//! allocates for that.

use std::cell::Cell;

/// What is kept of it: more than the headers and the target of nearly all requests have.
const KEPT_BYTES: usize = 16 * 1024;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the buffer, empty. Within `work` there is another one.
pub(super) fn with<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEPT_BYTES {
        SCRATCH.set(buffer);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_lent_empty_and_stays_unless_it_is_too_large() {
        let capacity = || with(|buffer| buffer.capacity());
        with(|buffer| {
            buffer.extend_from_slice(b"abc");
            with(|inner| assert_eq!(inner, b""));
        });
        with(|buffer| assert_eq!(buffer, b""));
        assert!(capacity() >= 3);
        with(|buffer| buffer.reserve(KEPT_BYTES + 1));
        assert!(capacity() <= KEPT_BYTES);
    }
}
