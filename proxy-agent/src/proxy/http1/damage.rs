//! Messages with a fault in one place: what readers are compared over.

/// Bytes that mean something to a parser, or are refused by one.
const TELLING: &[u8] = b"\r\n\t :;,0a\x00\xe9";

/// `text` with each telling byte in each place, once in place of what was there and once before it.
pub(in crate::proxy) fn damaged(text: &str) -> impl Iterator<Item = Vec<u8>> {
    let places = 0..=text.len();
    places.flat_map(move |at| {
        TELLING.iter().flat_map(move |&byte| {
            let mut replaced = text.as_bytes().to_vec();
            let mut inserted = replaced.clone();
            if let Some(old) = replaced.get_mut(at) {
                *old = byte;
            }
            inserted.insert(at, byte);
            [replaced, inserted]
        })
    })
}
