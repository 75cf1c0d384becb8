//! Field lines that go on as they came: nobody here looks at the fields of that message.

use std::ops::Range;

use httparse::Header;

use super::fields::{Said, place};

/// Bytes by which a line may become longer: a space behind the colon, and CR before LF.
const ADDED_BYTES: usize = 2;

/// What is left of a head's fields for the far end, as lines: names in lower case, and none of those
/// that are for one hop alone or tell a length.
#[derive(Debug, Default, Eq, PartialEq)]
pub(in crate::proxy) struct FieldLines(Vec<u8>);

/// Whom a field concerns.
#[derive(Clone, Copy)]
enum Concern {
    FarEnd,
    /// This hop, to which it says nothing.
    Nobody,
    Connection,
    Length,
    Coding,
    /// It is read here too, or goes on only with some values: that takes a map.
    Map,
}

impl Concern {
    /// Most names have another length than all of those that are looked for.
    const fn of(name: &[u8]) -> Self {
        match name.len() {
            2 if is(name, b"te") => Self::Map,
            7 if is(name, b"trailer") => Self::Map,
            7 if is(name, b"upgrade") => Self::Nobody,
            10 if is(name, b"connection") => Self::Connection,
            10 if is(name, b"keep-alive") => Self::Nobody,
            14 if is(name, b"content-length") => Self::Length,
            16 if is(name, b"proxy-connection") => Self::Nobody,
            17 if is(name, b"transfer-encoding") => Self::Coding,
            _ => Self::FarEnd,
        }
    }
}

/// Whether `text` is this token, which is of small letters and hyphens, whatever its letter case.
/// With the bit that tells small letters from others, nothing becomes one of these but its own other
/// case and CR, which no field has in it. Of known length, since most of what is asked for is.
const fn is<const N: usize>(text: &[u8], token: &[u8; N]) -> bool {
    let Some(text) = text.as_array::<N>() else {
        return false;
    };
    let (mut differing, mut at) = (0, 0);
    while at < N {
        differing |= (text[at] | 0x20) ^ token[at];
        at += 1;
    }
    differing == 0
}

impl FieldLines {
    /// Those of a response's head, which has these fields, and what the fields say. `None` where a
    /// map of them is needed to tell.
    pub(in crate::proxy) fn of(head: &[u8], fields: &[Header<'_>]) -> Option<(Self, Said)> {
        let mut lines = Vec::with_capacity(head.len() + ADDED_BYTES * fields.len());
        let mut said = Said::default();
        for Header { name, value } in fields {
            match Concern::of(name.as_bytes()) {
                Concern::FarEnd => {
                    let (name, value) = (place(head, name.as_bytes()), place(head, value));
                    put(&mut lines, head, name, value);
                }
                Concern::Nobody => {}
                // Nearly every server says one of these; others name fields.
                Concern::Connection if is(value, b"keep-alive") => said.keep_alive = true,
                Concern::Connection if is(value, b"close") => said.close = true,
                Concern::Length => said.length(value),
                Concern::Coding => said.coding(value),
                Concern::Connection | Concern::Map => return None,
            }
        }
        said.tells_one_length_at_most()
            .then_some((Self(lines), said))
    }

    pub(in crate::proxy) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Puts the line of `head` that has this name and value, at once if it came in the form that it goes
/// on in.
fn put(lines: &mut Vec<u8>, head: &[u8], name: Range<usize>, value: Range<usize>) {
    let start = lines.len();
    let (between, behind) = (&head[name.end..value.start], &head[value.end..]);
    if between == b": " && behind.starts_with(b"\r\n") {
        lines.extend_from_slice(&head[name.start..value.end + 2]);
    } else {
        lines.extend_from_slice(&head[name.clone()]);
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(&head[value]);
        lines.extend_from_slice(b"\r\n");
    }
    lines[start..start + name.len()].make_ascii_lowercase();
}
