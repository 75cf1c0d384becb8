//! TCP sockets of a network namespace as sock_diag(7) shows them, and ending some of them.
//!
//! The few fields that are needed are read and written by their place (include/uapi/linux/netlink.h,
//! sock_diag.h, inet_diag.h): the crates for this family know neither socket storage nor the
//! request that ends a socket.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// `NLM_F_REQUEST | NLM_F_ACK`
const FLAGS_DO: u16 = 5;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const FLAGS_DUMP: u16 = 0x301;

/// `struct nlmsghdr`
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_msg`, and where it has its `struct inet_diag_sockid`.
const MESSAGE_BYTES: usize = 72;
const ID: Range<usize> = 4..52;
/// `idiag_cookie`, two words of which the first is the lower half.
const COOKIE: Range<usize> = 44..52;

/// Request attribute: socket storage of these maps. Minimum kernel version: 5.7.
const REQ_SK_BPF_STORAGES: u16 = 2;
const REQ_MAP_FD: u16 = 1;
/// The same in an answer, one within the other: storages, one storage, its value.
const STORAGES: [u16; 3] = [20, 1, 3];
const NESTED: u16 = 1 << 15;

const TCP: u8 = 6;
const V4: u8 = 2;
const V6: u8 = 10;
/// Every state that has another end: 1 is ESTABLISHED, 10 LISTEN, 6 TIME_WAIT, 7 CLOSE.
const CONNECTED: u32 = 0xfff & !(1 << 10 | 1 << 6 | 1 << 7);

/// Time for the kernel's answer, which is made within the call.
const PATIENCE_S: i64 = 5;

/// Ends the TCP sockets of the calling thread's network namespace that `ends` says yes to, by their
/// cookie and their storage in `map`. Their application gets ECONNABORTED, the other end a reset.
/// Returns how many.
///
/// Minimum kernel version: 5.7, with `CONFIG_INET_DIAG_DESTROY`.
///
/// # Errors
///
/// What `ends` says. `EPERM`: the agent lacks `CAP_NET_ADMIN`. `EOPNOTSUPP`: the kernel was built without.
pub fn end_sockets(
    map: BorrowedFd<'_>,
    ends: impl Fn(u64, Option<&[u8]>) -> io::Result<bool>,
) -> io::Result<usize> {
    let netlink = open()?;
    let mut ended = 0;
    for family in [V4, V6] {
        for id in matching(&netlink, family, map, &ends)? {
            match request(&netlink, SOCK_DESTROY, FLAGS_DO, family, &id, &[]) {
                Ok(_) => ended += 1,
                // It has ended by itself.
                Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(ended)
}

fn open() -> io::Result<OwnedFd> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(
        &netlink,
        sockopt::ReceiveTimeout,
        &TimeVal::new(PATIENCE_S, 0),
    )?;
    Ok(netlink)
}

/// The ids of the sockets that are to end.
fn matching(
    netlink: &OwnedFd,
    family: u8,
    map: BorrowedFd<'_>,
    ends: &impl Fn(u64, Option<&[u8]>) -> io::Result<bool>,
) -> io::Result<Vec<Vec<u8>>> {
    let map_fd = attribute(REQ_MAP_FD, &map.as_raw_fd().to_ne_bytes());
    let storages = attribute(NESTED | REQ_SK_BPF_STORAGES, &map_fd);
    let any = [0; ID.end - ID.start];
    let found = request(
        netlink,
        SOCK_DIAG_BY_FAMILY,
        FLAGS_DUMP,
        family,
        &any,
        &storages,
    )?;
    let mut matching = Vec::new();
    for message in found {
        let Some((fixed, attributes)) = message.split_at_checked(MESSAGE_BYTES) else {
            continue;
        };
        let kept = STORAGES
            .iter()
            .try_fold(attributes, |within, kind| find(within, *kind));
        if cookie(fixed).map_or(Ok(false), |cookie| ends(cookie, kept))? {
            matching.push(fixed[ID].to_vec());
        }
    }
    Ok(matching)
}

/// Asks, and collects the answers.
fn request(
    netlink: &OwnedFd,
    kind: u16,
    flags: u16,
    family: u8,
    id: &[u8],
    attributes: &[u8],
) -> io::Result<Vec<Vec<u8>>> {
    // `struct inet_diag_req_v2`
    let mut body = vec![family, TCP, 0, 0];
    body.extend(CONNECTED.to_ne_bytes());
    body.extend(id);
    body.extend(attributes);
    let length = u32::try_from(HEADER_BYTES + body.len()).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let received = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if collect(&buffer[..received], &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Takes the messages of one datagram. Returns whether the last of them was among them.
fn collect(mut datagram: &[u8], answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    while let Some((header, _)) = datagram.split_at_checked(HEADER_BYTES) {
        let length = word(header).map_or(0, |length| length as usize);
        let message = datagram.get(HEADER_BYTES..length);
        let message = message.ok_or_else(|| io::Error::other("a netlink message is cut short"))?;
        match u16::from_ne_bytes([header[4], header[5]]) {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let errno = word(message).map_or(0, u32::cast_signed);
                return match errno {
                    0 => Ok(true),
                    errno => Err(io::Error::from_raw_os_error(-errno)),
                };
            }
            _ => answers.push(message.to_vec()),
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}

/// A netlink attribute, padded.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of the first attribute of a kind.
fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let [low, high, one, other, ..] = *attributes else {
            return None;
        };
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([one, other]) & !NESTED == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// The cookie in a `struct inet_diag_msg`.
fn cookie(fixed: &[u8]) -> Option<u64> {
    let (low, high) = fixed.get(COOKIE)?.split_at(4);
    Some(u64::from(word(high)?) << 32 | u64::from(word(low)?))
}

fn word(bytes: &[u8]) -> Option<u32> {
    let bytes = bytes.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_among_others_and_within_others() {
        let value = attribute(3, b"value");
        let mut storage = attribute(2, &[1, 2, 3, 4]);
        storage.extend(&value);
        let mut all = attribute(8, b"x");
        all.extend(attribute(NESTED | 20, &attribute(NESTED | 1, &storage)));
        let found = STORAGES
            .iter()
            .try_fold(&all[..], |within, kind| find(within, *kind));
        assert_eq!(found, Some(&b"value"[..]));
        assert_eq!(find(&all, 21), None);
    }

    #[test]
    fn the_cookie_is_two_words_the_lower_one_first() {
        let mut fixed = [0xff; MESSAGE_BYTES];
        fixed[COOKIE]
            .copy_from_slice(&[0x0403_0201_u32.to_ne_bytes(), 5_u32.to_ne_bytes()].concat());
        assert_eq!(cookie(&fixed), Some(0x5_0403_0201));
        assert_eq!(cookie(&fixed[..COOKIE.end - 1]), None);
    }

    #[test]
    fn attributes_that_are_cut_short_are_none() {
        let whole = attribute(3, b"value!!!");
        for length in 0..whole.len() {
            assert_eq!(find(&whole[..length], 3), None);
        }
        assert_eq!(find(&[0; 8], 3), None, "a length below its own header");
    }

    #[test]
    fn an_error_of_the_kernel_is_one_and_an_acknowledgement_is_the_end() {
        let message = |errno: i32| {
            let mut bytes = 20u32.to_ne_bytes().to_vec();
            bytes.extend(NLMSG_ERROR.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(errno.to_ne_bytes());
            bytes
        };
        let mut answers = Vec::new();
        assert!(collect(&message(0), &mut answers).unwrap());
        let error = collect(&message(-1), &mut answers).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(collect(&message(0)[..18], &mut answers).is_err());
        assert!(answers.is_empty());
    }
}
