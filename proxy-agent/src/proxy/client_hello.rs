//! The server name that a TLS client asks for, out of the first bytes of its connection.
//!
//! Pure, and total: any bytes are judged, none are trusted. Nothing is decrypted or terminated;
//! what is read is what every TLS client sends in the clear (RFC 8446, section 4.1.2; RFC 5246,
//! section 7.4.1.2; RFC 6066, section 3).

/// Bytes of a ClientHello at most, records' headers included; Envoy's bound.
pub(super) const MAX_HELLO_BYTES: usize = 16 * 1024;

/// `ContentType` of a handshake record.
const HANDSHAKE: u8 = 22;
/// `HandshakeType` of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// `ExtensionType` of the server name.
const SERVER_NAME: u16 = 0;
/// `NameType` of a host name.
const HOST_NAME: u8 = 0;
/// Bytes of a record's header.
const RECORD_HEADER: usize = 5;
/// Bytes of a handshake message's header.
const MESSAGE_HEADER: usize = 4;
/// Bytes of a record's contents at most (RFC 8446, section 5.1).
const MAX_RECORD: usize = 1 << 14;
/// Bytes of a name at most (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hello {
    /// The beginning of a ClientHello, for all that can be told.
    Partial,
    /// No ClientHello, or one that is malformed or larger than 16 KiB.
    Foreign,
    /// A whole one, and the server name that it asks for, in lower case.
    Whole(Option<Box<str>>),
}

/// Judges the first bytes of a connection.
pub fn client_hello(bytes: &[u8]) -> Hello {
    match message(bytes) {
        Err(Short) if bytes.len() < MAX_HELLO_BYTES => Hello::Partial,
        Err(Short) | Ok(None) => Hello::Foreign,
        Ok(Some(body)) => server_name(&body).map_or(Hello::Foreign, Hello::Whole),
    }
}

/// More bytes are needed.
struct Short;

/// The body of the ClientHello that the records carry; `None` if they carry something else.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, Short> {
    let mut contents = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((record, length)) = record(rest) else {
            return Ok(None);
        };
        contents.extend_from_slice(record);
        if contents.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Ok(None);
        }
        if let Some((header, body)) = contents.split_first_chunk::<MESSAGE_HEADER>() {
            let [_, high, middle, low] = header.map(usize::from);
            let wanted = high << 16 | middle << 8 | low;
            if wanted > MAX_HELLO_BYTES {
                return Ok(None);
            }
            if body.len() >= wanted {
                return Ok(Some(body[..wanted].to_vec()));
            }
        }
        rest = rest
            .get(RECORD_HEADER + length.ok_or(Short)?..)
            .ok_or(Short)?;
    }
}

/// What is there of the next record's contents, and their length where that is known; `None` if it
/// is none of a handshake.
fn record(bytes: &[u8]) -> Option<(&[u8], Option<usize>)> {
    let kind = bytes.first().is_none_or(|kind| *kind == HANDSHAKE);
    // SSL 3.0 to TLS 1.2, which TLS 1.3 writes there too.
    let version = bytes.get(1).is_none_or(|major| *major == 3);
    if !kind || !version {
        return None;
    }
    let Some((header, contents)) = bytes.split_first_chunk::<RECORD_HEADER>() else {
        return Some((&[], None));
    };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    // RFC 8446, section 5.1: a handshake record is never empty.
    let accepted = (1..=MAX_RECORD).contains(&length);
    accepted.then(|| (&contents[..length.min(contents.len())], Some(length)))
}

/// The name in the body of a ClientHello; `None` if the body is malformed.
fn server_name(body: &[u8]) -> Option<Option<Box<str>>> {
    const VERSION_AND_RANDOM: usize = 2 + 32;
    let mut body = Fields(body.get(VERSION_AND_RANDOM..)?);
    let _session = body.short()?;
    let _cipher_suites = body.long()?;
    let _compression = body.short()?;
    if body.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Fields(body.long()?);
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let contents = extensions.long()?;
        if kind == SERVER_NAME {
            return host_name(contents).map(Some);
        }
    }
    Some(None)
}

/// The host name in the server name extension.
fn host_name(contents: &[u8]) -> Option<Box<str>> {
    let mut names = Fields(Fields(contents).long()?);
    let kind = names.byte()?;
    let name = names.long()?;
    let length = (1..=MAX_NAME).contains(&name.len());
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    let accepted = kind == HOST_NAME && length && name.iter().all(plain);
    let name = std::str::from_utf8(name).ok().filter(|_| accepted)?;
    let name = name.trim_end_matches('.');
    (!name.is_empty()).then(|| name.to_ascii_lowercase().into())
}

/// Reads one field after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A field whose length stands before it in one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// A field whose length stands before it in two bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn long(bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, contents: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &long(contents)].concat()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        extension(0, &long(&[&[0][..], &long(name)].concat()))
    }

    /// The handshake message of a ClientHello with these extensions.
    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([1, 9]); // session
        body.extend(long(&[0x13, 0x01]));
        body.extend([1, 0]); // compression
        if !extensions.is_empty() {
            body.extend(long(extensions));
        }
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1, length[1], length[2], length[3]][..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |contents: &[u8]| [&[22, 3, 1][..], &long(contents)].concat();
        message.chunks(size).flat_map(record).collect()
    }

    fn whole(name: &str) -> Hello {
        Hello::Whole(Some(name.into()))
    }

    #[test]
    fn the_name_is_found_behind_other_extensions_and_in_lower_case() {
        let extensions = [extension(43, &[2, 3, 4]), named(b"Web.Example.ORG")].concat();
        let bytes = records(&hello(&extensions), MAX_RECORD);
        assert_eq!(client_hello(&bytes), whole("web.example.org"));
        let more = [&bytes[..], b"early data"].concat();
        assert_eq!(client_hello(&more), whole("web.example.org"));
    }

    #[test]
    fn a_hello_without_a_name_is_whole() {
        for extensions in [Vec::new(), extension(43, &[2, 3, 4])] {
            let bytes = records(&hello(&extensions), MAX_RECORD);
            assert_eq!(client_hello(&bytes), Hello::Whole(None));
        }
    }

    #[test]
    fn every_beginning_is_partial_however_it_is_cut_into_records() {
        let message = hello(&named(b"web"));
        for size in [1, 3, 7, message.len()] {
            let bytes = records(&message, size);
            for end in 0..bytes.len() {
                assert_eq!(client_hello(&bytes[..end]), Hello::Partial, "{size} {end}");
            }
            assert_eq!(client_hello(&bytes), whole("web"), "{size}");
        }
    }

    #[test]
    fn what_is_no_hello_is_known_at_once() {
        let message = hello(&named(b"web"));
        let mut finished = message.clone();
        finished[0] = 20;
        for foreign in [
            b"GET / HTTP/1.1".to_vec(),
            b"\x16\x02".to_vec(),
            vec![22, 3, 1, 0, 0],
            vec![22, 3, 1, 0x40, 1],
            records(&finished, MAX_RECORD),
            // A length that no hello has.
            records(&[1, 1, 0, 0], MAX_RECORD),
            records(&hello(&named(b"w\xc3\xa4b")), MAX_RECORD),
            records(&hello(&named(b"")), MAX_RECORD),
            records(&hello(&extension(0, &[0, 9, 0, 0, 1])), MAX_RECORD),
        ] {
            assert_eq!(client_hello(&foreign), Hello::Foreign, "{foreign:?}");
        }
    }

    #[test]
    fn a_hello_that_never_ends_is_given_up() {
        let mut message = hello(&[]);
        message[1..4].copy_from_slice(&[0, 0x40, 0]);
        message.resize(MAX_HELLO_BYTES, 0);
        let bytes = records(&message, 16);
        assert_eq!(client_hello(&bytes[..MAX_HELLO_BYTES - 1]), Hello::Partial);
        assert_eq!(client_hello(&bytes[..MAX_HELLO_BYTES]), Hello::Foreign);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(mut bytes in prop::collection::vec(any::<u8>(), 0..300), like in any::<bool>()) {
            if like && bytes.len() > 9 {
                bytes[..6].copy_from_slice(&[22, 3, 1, 0, 250, 1]);
            }
            client_hello(&bytes);
        }

        #[test]
        fn a_changed_byte_never_breaks_the_reader(at in 0..60_usize, byte: u8) {
            let mut bytes = records(&hello(&named(b"web.example.org")), 50);
            bytes[at] = byte;
            client_hello(&bytes);
        }
    }
}
