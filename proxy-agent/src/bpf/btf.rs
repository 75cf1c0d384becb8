//! The kernel's own types: where a member of a struct stands. Only that, of all that BTF tells.
//!
//! Format: Documentation/bpf/btf.rst. The programs would otherwise need relocations that their
//! compiler does not make.

/// The kernel's types.
const PATH: &str = "/sys/kernel/btf/vmlinux";
/// `BTF_MAGIC`, include/uapi/linux/btf.h; here as a file of this machine's byte order has it.
const MAGIC: u16 = 0xeb9f;

// `BTF_KIND_*`, the same header: those that have more than a name, and all others that there are.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

/// Where members stand that the programs read, in bytes; 0 where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Offsets {
    /// `sk_err` in `struct sock`.
    pub(super) sk_err: u32,
    /// `sk_kern_sock` in `struct sock`; it is one bit, and this counts in bits.
    pub(super) sk_kern_sock_bits: u32,
    /// `write_seq` in `struct tcp_sock`.
    pub(super) write_seq: u32,
    /// `copied_seq` in `struct tcp_sock`.
    pub(super) copied_seq: u32,
}

/// Asks the running kernel.
pub(super) fn offsets() -> Offsets {
    match std::fs::read(PATH) {
        Ok(bytes) => Offsets {
            sk_err: member_bits(&bytes, "sock", "sk_err").unwrap_or(0) / 8,
            sk_kern_sock_bits: member_bits(&bytes, "sock", "sk_kern_sock").unwrap_or(0),
            write_seq: member_bits(&bytes, "tcp_sock", "write_seq").unwrap_or(0) / 8,
            copied_seq: member_bits(&bytes, "tcp_sock", "copied_seq").unwrap_or(0) / 8,
        },
        Err(error) => {
            tracing::debug!(%error, path = PATH, "the kernel's types cannot be read");
            Offsets::default()
        }
    }
}

/// Offset in bits of a member that stands in the struct itself.
fn member_bits(bytes: &[u8], of: &str, member: &str) -> Option<u32> {
    let file = File::open(bytes)?;
    let mut types = Words(file.types);
    while let Some([name, info, _size]) = types.take() {
        let (kind, count) = (info >> 24 & 0x1f, info as usize & 0xffff);
        let mut body = types.split(body_words(kind, count)?)?;
        if kind != STRUCT || file.text(name) != Some(of.as_bytes()) {
            continue;
        }
        // With the kind flag the upper 8 bits of an offset are the size of a bit field.
        let mask = if info >> 31 == 1 {
            0x00ff_ffff
        } else {
            u32::MAX
        };
        while let Some([name, _type, offset_bits]) = body.take() {
            if file.text(name) == Some(member.as_bytes()) {
                return Some(offset_bits & mask);
            }
        }
    }
    None
}

/// How many words follow the three that every type begins with; `None` for an unknown kind.
const fn body_words(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        STRUCT | UNION | DATASEC | ENUM64 => 3 * count,
        ARRAY => 3,
        ENUM | FUNC_PROTO => 2 * count,
        INT | VAR | DECL_TAG => 1,
        2..=18 => 0,
        _ => return None,
    })
}

/// The two sections of a file.
struct File<'f> {
    types: &'f [u8],
    strings: &'f [u8],
}

impl<'f> File<'f> {
    fn open(bytes: &'f [u8]) -> Option<Self> {
        let magic = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        let [header_bytes, type_at, type_bytes, text_at, text_bytes] =
            Words(bytes.get(4..)?).take()?.map(|word| word as usize);
        let section = |at: usize, length: usize| bytes.get(header_bytes + at..)?.get(..length);
        (magic == MAGIC).then_some(())?;
        Some(Self {
            types: section(type_at, type_bytes)?,
            strings: section(text_at, text_bytes)?,
        })
    }

    fn text(&self, at: u32) -> Option<&'f [u8]> {
        let rest = self.strings.get(at as usize..)?;
        rest.split(|byte| *byte == 0).next()
    }
}

/// Words of 32 bits, in this machine's order.
struct Words<'f>(&'f [u8]);

impl<'f> Words<'f> {
    fn take<const N: usize>(&mut self) -> Option<[u32; N]> {
        let taken = self.split(N)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(taken.0.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().ok()?);
        }
        Some(words)
    }

    fn split(&mut self, words: usize) -> Option<Words<'f>> {
        let (taken, rest) = self.0.split_at_checked(4 * words)?;
        self.0 = rest;
        Some(Words(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRINGS: &[u8] = b"\0int\0sock\0sk_err\0sk_state\0";

    /// `int`, an array of it, and `struct sock { int sk_state : 4 at 32; int sk_err at 544; }`.
    fn file(magic: u16) -> Vec<u8> {
        let types: &[u32] = &[
            &[1, INT << 24, 4, 32][..],
            &[0, ARRAY << 24, 0, 1, 1, 8],
            &[
                5,
                1 << 31 | STRUCT << 24 | 2,
                72,
                17,
                1,
                4 << 24 | 32,
                10,
                1,
                544,
            ],
        ]
        .concat();
        let type_bytes = u32::try_from(4 * types.len()).unwrap();
        let string_bytes = u32::try_from(STRINGS.len()).unwrap();
        let header = [24, 0, type_bytes, type_bytes, string_bytes];
        let mut bytes = magic.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        bytes.extend(
            header
                .iter()
                .chain(types)
                .flat_map(|word| word.to_ne_bytes()),
        );
        bytes.extend(STRINGS);
        bytes
    }

    #[test]
    fn a_member_is_found_behind_other_types_and_members() {
        let file = file(MAGIC);
        assert_eq!(member_bits(&file, "sock", "sk_err"), Some(544));
        assert_eq!(member_bits(&file, "sock", "sk_state"), Some(32));
        assert_eq!(member_bits(&file, "sock", "sk_mark"), None);
        assert_eq!(member_bits(&file, "int", "sk_err"), None);
    }

    #[test]
    fn what_is_no_btf_or_is_cut_short_has_no_members() {
        let whole = file(MAGIC);
        for length in 0..whole.len() {
            assert_eq!(member_bits(&whole[..length], "sock", "sk_err"), None);
        }
        assert_eq!(member_bits(&file(0x9feb), "sock", "sk_err"), None);
    }

    #[test]
    fn this_kernel_tells_where_sockets_keep_what_the_programs_read() {
        if std::path::Path::new(PATH).exists() {
            let found = offsets();
            assert!(found.sk_err > 0 && found.sk_kern_sock_bits > 0);
            assert!(found.write_seq > 0 && found.copied_seq > 0);
        }
    }
}
