//! Messages with a fault in one place: what readers are compared over.

/// Bytes that mean something to a parser, or are refused by one.
const TELLING: &[u8] = b"\r\n\t :;,0a\x00\xe9";

/// `text` without one of its bytes, with each telling byte in its place, and with each before it or at the end.
pub(in crate::proxy) fn damaged(text: &str) -> impl Iterator<Item = Vec<u8>> {
    let bytes = text.as_bytes();
    (0..=bytes.len()).flat_map(move |at| {
        let (before, behind) = bytes.split_at(at);
        let with = move |byte: Option<&u8>, behind: &[u8]| {
            let byte = byte.into_iter().copied();
            before
                .iter()
                .copied()
                .chain(byte)
                .chain(behind.iter().copied())
                .collect()
        };
        let mut texts: Vec<Vec<u8>> = Vec::new();
        if let Some(rest) = behind.get(1..) {
            texts.push(with(None, rest));
            texts.extend(TELLING.iter().map(|byte| with(Some(byte), rest)));
        }
        texts.extend(TELLING.iter().map(|byte| with(Some(byte), behind)));
        texts
    })
}
