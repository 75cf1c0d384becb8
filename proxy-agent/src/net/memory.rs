//! Memory of the process that the kernel can have back.

use std::ffi::c_void;
use std::fs;
use std::io;

use rustix::mm::{Advice, madvise};

/// A part of the address space, as `/proc/self/smaps` tells of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Mapping {
    start: usize,
    bytes: usize,
}

/// Forgets what was touched of the program's code and constants: most of it was for the start, and
/// what is used again is mapped again, out of the page cache. Returns the bytes of the address space
/// that were looked at.
///
/// # Errors
///
/// The kernel does not tell what is mapped, or refuses; nothing is lost then.
pub fn forget_code() -> io::Result<usize> {
    let mut bytes = 0;
    for mapping in unwritten(&fs::read_to_string("/proc/self/smaps")?) {
        let start = std::ptr::without_provenance_mut::<c_void>(mapping.start);
        // SAFETY: the mapping is of a file, cannot be written to, and holds no page that differs
        // from the file (relocations are such pages). What MADV_DONTNEED drops is therefore read
        // from the same file, with the same content, at the next access (madvise(2)).
        unsafe { madvise(start, mapping.bytes, Advice::LinuxDontNeed) }?;
        bytes += mapping.bytes;
    }
    Ok(bytes)
}

/// Gives heap memory that is free back to the kernel when the process has grown, and for some time after:
/// what it has grown by may be free only then.
///
/// The C library keeps what is free between what is not: after a start, after an answer of 30 MiB
/// to `status`, and when thousands of connections have become idle, that is most of the heap.
#[derive(Debug, Default)]
pub struct Heap {
    /// Resident bytes when memory was given back last.
    resident: usize,
    /// Looks after which nothing is given back any more.
    left: u8,
}

/// Growth from which it is worth a look through the heap, during which allocations of one thread after the
/// other wait: some ten microseconds for each MiB that is free.
const GROWTH_BYTES: usize = 4 << 20;

/// Looks after growth, and after one that was worth it.
const LOOKS: u8 = 4;

/// What makes a look worth it.
const WORTH_BYTES: usize = 1 << 20;

impl Heap {
    /// Looks whether the process has grown since the last time, by 4 MiB and an eighth, or had grown a short time ago,
    /// and gives memory back then. Returns the bytes that it gave back; `None` if it did not look.
    ///
    /// # Errors
    ///
    /// The kernel does not tell what is resident.
    pub fn give_back(&mut self) -> io::Result<Option<usize>> {
        let before = resident()?;
        if before > self.resident + GROWTH_BYTES.max(self.resident / 8) {
            self.left = LOOKS;
        }
        if self.left == 0 {
            return Ok(None);
        }
        trim();
        self.resident = resident()?;
        let given_back = before.saturating_sub(self.resident);
        self.left = if given_back < WORTH_BYTES {
            self.left - 1
        } else {
            LOOKS
        };
        Ok(Some(given_back))
    }
}

/// Resident bytes of this process (`proc_pid_statm(5)`).
fn resident() -> io::Result<usize> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    let pages: usize = pages.ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size())
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: `malloc_trim(3)` takes a number, is safe in a process of several threads, and touches only
    // what is free.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give back by themselves.
#[cfg(not(target_env = "gnu"))]
const fn trim() {}

/// Mappings of files that nobody can write to and of which no page was ever written to: not even one
/// that was swapped out since.
fn unwritten(smaps: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let (mut last, mut none_anonymous) = (None, false);
    for line in smaps.lines() {
        if let Some(mapping) = of_file(line) {
            (last, none_anonymous) = (mapping, false);
            continue;
        }
        let is = |wanted| line.split_whitespace().eq(wanted);
        none_anonymous |= is(["Anonymous:", "0", "kB"]);
        // Comes after it.
        if none_anonymous && is(["Swap:", "0", "kB"]) {
            found.extend(last.take());
        }
    }
    found
}

/// `None` if the line begins no mapping; else the mapping, if it is private, of a file, and cannot be
/// written to. As in `55d8c0a00000-55d8c1b00000 r-xp 00a00000 fe:00 1234   /usr/bin/x`.
fn of_file(line: &str) -> Option<Option<Mapping>> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let readable = matches!(fields.next()?, "r-xp" | "r--p");
    let of_file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
    let mapping = Mapping {
        start,
        bytes: end.saturating_sub(start),
    };
    Some((readable && of_file).then_some(mapping))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-3000 r--p 00000000 fe:00 7   /bin/x\nAnonymous:   0 kB\nSwap:   0 kB\n\
3000-9000 r-xp 00002000 fe:00 7   /bin/x y (deleted)\nAnonymous:   0 kB\nSwap:   0 kB\n\
9000-a000 r--p 00008000 fe:00 7   /bin/x\nAnonymous:   4 kB\nSwap:   0 kB\n\
9000-a000 r--p 00008000 fe:00 7   /bin/x\nAnonymous:   0 kB\nSwap:   4 kB\n\
a000-b000 rw-p 00009000 fe:00 7   /bin/x\nAnonymous:   0 kB\nSwap:   0 kB\n\
b000-c000 r--s 00000000 fe:00 9   /shared\nAnonymous:   0 kB\nSwap:   0 kB\n\
c000-d000 r--p 00000000 00:00 0\nAnonymous:   0 kB\nSwap:   0 kB\n\
d000-e000 r-xp 00000000 00:00 0   [vdso]\nAnonymous:   0 kB\nSwap:   0 kB\n";

    #[test]
    fn only_what_is_as_the_file_has_it_is_forgotten() {
        let mapping = |start, bytes| Mapping { start, bytes };
        let expected = [mapping(0x1000, 0x2000), mapping(0x3000, 0x6000)];
        assert_eq!(unwritten(SMAPS), expected);
    }

    #[test]
    fn what_is_free_between_what_is_not_is_given_back_and_then_nothing_is_looked_at() {
        // Below the size from which each block has a mapping of its own.
        let mut blocks: Vec<_> = (0..4_096).map(|_| vec![1_u8; 8 << 10]).collect();
        let last = blocks.pop();
        drop(blocks);
        let mut heap = Heap::default();
        let given_back = heap.give_back().unwrap();
        if cfg!(target_env = "gnu") {
            assert!(given_back > Some(16 << 20), "{given_back:?} bytes");
        }
        // Other tests run beside this one, and allocate.
        let looks = (0..100).take_while(|_| heap.give_back().unwrap().is_some());
        assert!(looks.count() < 100, "it goes on although nothing grows");
        drop(last);
    }

    fn resident_file_kib() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:"));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.unwrap().parse().unwrap()
    }

    #[test]
    fn the_program_goes_on_without_the_pages_that_it_had() {
        let before = resident_file_kib();
        assert!(forget_code().unwrap() > 0);
        let after = resident_file_kib();
        assert!(after < before, "{before} KiB, then {after} KiB");
    }
}
