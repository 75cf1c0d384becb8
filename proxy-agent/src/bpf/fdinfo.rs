//! What proc_pid_fdinfo(5) tells of a program or a map by its descriptor: run times, memory.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Memory of a map, bytes (`memlock`).
pub(super) fn memory_bytes(map: BorrowedFd<'_>) -> Option<u64> {
    number(&read(map)?, "memlock")
}

/// Runs of a program that were timed, and how long they took together, ns. Minimum kernel: 5.1.
pub(super) fn runs(program: BorrowedFd<'_>) -> Option<(u64, u64)> {
    let text = read(program)?;
    Some((number(&text, "run_cnt")?, number(&text, "run_time_ns")?))
}

fn read(fd: BorrowedFd<'_>) -> Option<String> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            tracing::debug!(%error, "no information about a descriptor");
            None
        }
    }
}

fn number(text: &str, field: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name == field).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "prog_type:\t18\nmemlock:\t4096\nrun_time_ns:\t700\nrun_cnt:\t2\n";
        assert_eq!(number(text, "memlock"), Some(4096));
        assert_eq!(number(text, "run_cnt"), Some(2));
        assert_eq!(number(text, "run"), None);
    }
}
