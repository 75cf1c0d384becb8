//! The eBPF programs, one file a hook. `cargo xtask build-ebpf` builds them.
//!
//! They decide as little as they can: whether a connection belongs to the agent, and where it was
//! meant to go. Everything fails open; every outcome is counted in `STATS`.
#![no_std]
#![no_main]
// Atomic operations. Programs are built by a toolchain that has it, as it has to build `core`.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod accelerate;
mod atomic;
mod connect;
mod element;
mod getpeername;
mod kept;
mod log;
mod maps;
mod port;
mod release;
mod sockops;
mod stats;
mod tcp;

/// Helpers such as `bpf_get_netns_cookie` are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses loops without an end, so a program that could get here does not load.
    loop {}
}
