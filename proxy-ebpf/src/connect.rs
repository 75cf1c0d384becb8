//! cgroup/connect4 and 6: a captured pod's connection to a Service goes to the agent's listener, or
//! straight to an endpoint.
//!
//! Minimum kernel version: 5.7. Fails open, apart from the two refusals that the user asks for
//! and Services without an endpoint;
//! [`Skip`] names every reason for leaving a connection alone, and each is counted.

mod check;
mod direct;
mod skip;

use aya_ebpf::helpers::generated::bpf_set_retval;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::debug;
use aya_log_ebpf::macro_support::Level;
use proxy_ebpf::{OrigDst, SocketDst, Stat, v4_mapped};

use self::check::{Asked, Steer, To};
use self::skip::{Skip, Verdict};
use crate::maps::REFUSE_WITH_ERRNO;
use crate::{kept, log, port, stats};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
/// include/uapi/asm-generic/errno.h
const ECONNREFUSED: i32 = 111;

const LOOPBACK_V4: [u8; 16] = v4_mapped([127, 0, 0, 1]);
const LOOPBACK_V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Steers `connect(2)` of AF_INET sockets.
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    let asked = Asked::new(port::user_ip4(&ctx), port::user_port_be(&ctx));
    let steered = steer(&ctx, &asked);
    if let Ok(steer) = &steered {
        port::set_user_ip4(&ctx, steer.addr(&asked));
        port::set_user_port_be(&ctx, steer.port_be());
    }
    conclude(&ctx, &asked, steered)
}

/// Steers `connect(2)` of AF_INET6 sockets. A v4-mapped destination is an IPv4 one and stays
/// v4-mapped, since the socket may be bound to a v4-mapped source.
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    let asked = Asked::new(port::user_ip6(&ctx), port::user_port_be(&ctx));
    let steered = steer(&ctx, &asked);
    if let Ok(steer) = &steered {
        port::set_user_ip6(&ctx, steer.addr(&asked));
        port::set_user_port_be(&ctx, steer.port_be());
    }
    conclude(&ctx, &asked, steered)
}

/// Decides, and remembers on the socket what it asked for.
#[inline(always)]
fn steer(ctx: &SockAddrContext, asked: &Asked) -> Result<Steer, Skip> {
    let steer = check::steer(ctx, asked)?;
    remember(ctx, asked, &steer)?;
    Ok(steer)
}

#[inline(always)]
fn remember(ctx: &SockAddrContext, asked: &Asked, steer: &Steer) -> Result<(), Skip> {
    let wanted = OrigDst::new(asked.addr, u16::from_be_bytes(asked.port_be), steer.now_ns);
    let wanted = wanted.of_pod(steer.pod);
    let dst = match steer.to {
        To::Endpoint(endpoint) => SocketDst::direct(wanted, *endpoint),
        To::Listener(_) => SocketDst::proxied(wanted),
    };
    kept::keep(ctx, dst).ok_or(Skip::StorageFull)
}

/// Counts and logs the outcome and turns it into the hook's verdict.
#[inline(always)]
fn conclude(ctx: &SockAddrContext, asked: &Asked, steered: Result<Steer, Skip>) -> i32 {
    let port = u16::from_be_bytes(asked.port_be);
    match steered {
        Ok(steer) => {
            let stat = match steer.to {
                To::Endpoint(_) => Stat::Direct,
                To::Listener(_) => Stat::Proxied,
            };
            stats::count(stat);
            if log::admits(Level::Debug) {
                let outcome = stat.name();
                debug!(
                    ctx,
                    "connect to {:i} port {} from netns {}: {} to {:i} port {}",
                    asked.addr,
                    port,
                    steer.netns_cookie,
                    outcome,
                    steer.addr(asked),
                    u16::from_be_bytes(steer.port_be())
                );
            }
            ALLOW
        }
        Err(skip) => {
            kept::forget(ctx);
            let stat = skip.stat();
            stats::count(stat);
            let (level, answer) = match skip.verdict() {
                Verdict::Pass => (Level::Trace, ALLOW),
                Verdict::Refuse => (Level::Debug, refuse()),
            };
            if log::admits(level) {
                let outcome = stat.name();
                aya_log_ebpf::log!(
                    ctx,
                    level,
                    "connect to {:i} port {}: {}",
                    asked.addr,
                    port,
                    outcome
                );
            }
            answer
        }
    }
}

#[inline(always)]
fn refuse() -> i32 {
    if REFUSE_WITH_ERRNO.load() == 1 {
        // SAFETY: the helper takes a number; the loader allows it only where the kernel has it.
        unsafe { bpf_set_retval(-ECONNREFUSED) };
    }
    REFUSE
}
