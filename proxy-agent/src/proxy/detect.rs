//! What a connection's first bytes are: HTTP/1, HTTP/2 by prior knowledge, or neither. Pure.

/// The client's connection preface of HTTP/2 (RFC 9113, section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest method that is waited for: longer than any registered one (`UPDATEREDIRECTREF`, 17).
const LONGEST_METHOD: usize = 20;

/// Methods that are common enough to be believed whatever form their target takes; any other is
/// HTTP only in front of a path. Without that, `EHLO example.org` would be a request.
const WELL_KNOWN: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];

/// Verdict on the bytes so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Detected {
    /// An HTTP/1 request line begins.
    Http1,
    /// The HTTP/2 preface.
    Http2,
    /// Neither, for sure.
    Opaque,
    /// Could still become either.
    Undecided,
}

/// Looks at the first 24 bytes of a connection; [`Detected::Undecided`] only where there are fewer.
pub fn detect(bytes: &[u8]) -> Detected {
    let looked_at = &bytes[..bytes.len().min(H2_PREFACE.len())];
    let judged = judge(looked_at);
    // Empty lines, and a method that may still become one.
    if judged == Detected::Undecided && looked_at.len() == H2_PREFACE.len() {
        return Detected::Opaque;
    }
    judged
}

fn judge(bytes: &[u8]) -> Detected {
    let common = bytes.len().min(H2_PREFACE.len());
    if bytes[..common] == H2_PREFACE[..common] {
        return if common == H2_PREFACE.len() {
            Detected::Http2
        } else {
            Detected::Undecided
        };
    }
    // RFC 9112, section 2.2: empty lines before the request line are ignored.
    let start = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'));
    request_line(&bytes[start.count()..])
}

fn request_line(line: &[u8]) -> Detected {
    let method = line.iter().take_while(|byte| is_method(**byte)).count();
    match line.get(method) {
        None if method <= LONGEST_METHOD => Detected::Undecided,
        Some(b' ') if method > 0 && method <= LONGEST_METHOD => {
            if WELL_KNOWN.contains(&&line[..method]) {
                return Detected::Http1;
            }
            match line.get(method + 1) {
                None => Detected::Undecided,
                Some(b'/') => Detected::Http1,
                Some(_) => Detected::Opaque,
            }
        }
        _ => Detected::Opaque,
    }
}

/// Upper case only: methods are case-sensitive, and no registered one has other letters.
const fn is_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_http1() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "CONNECT example.org:443 HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "\r\nPOST /x HTTP/1.0",
            "MKCALENDAR /a HTTP/1.1",
            "PRI /x HTTP/1.1",
        ] {
            assert_eq!(detect(line.as_bytes()), Detected::Http1, "{line}");
        }
    }

    #[test]
    fn other_protocols_are_opaque() {
        for bytes in [
            &b"\x16\x03\x01\x02\x00\x01"[..],
            b"EHLO example.org\r\n",
            b"get / HTTP/1.1",
            b"*1\r\n$4\r\nPING\r\n",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            b" GET /",
        ] {
            assert_eq!(detect(bytes), Detected::Opaque, "{bytes:?}");
        }
    }

    #[test]
    fn every_split_of_a_preface_or_request_is_undecided_until_it_is_right() {
        for (whole, verdict) in [
            (H2_PREFACE, Detected::Http2),
            (b"DELETE /x HTTP/1.1\r\n", Detected::Http1),
            (b"PROPFIND /x HTTP/1.1\r\n", Detected::Http1),
        ] {
            for end in 0..=whole.len() {
                let got = detect(&whole[..end]);
                assert!(
                    got == Detected::Undecided || got == verdict,
                    "{end}: {got:?}"
                );
            }
            assert_eq!(detect(whole), verdict);
        }
    }

    #[test]
    fn twenty_four_bytes_always_decide() {
        for bytes in [&[b'A'; 24], &[b'\n'; 24], b"\r\n\r\nUPDATEREDIRECTREFSAB"] {
            assert_eq!(detect(bytes), Detected::Opaque, "{bytes:?}");
        }
        assert_ne!(
            detect(b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nG"),
            Detected::Http1
        );
    }
}
