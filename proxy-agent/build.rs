//! Embeds the eBPF object where `cargo xtask build-ebpf` has built one. It builds nothing itself,
//! so that everything else compiles without the BPF toolchain.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let object = manifest_dir.join("../target/bpf/proxy-ebpf");
    let embedded = PathBuf::from(env::var("OUT_DIR")?).join("proxy-ebpf");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", object.display());
    if object.exists() {
        fs::copy(&object, &embedded)?;
    } else {
        // An empty object says "none": the agent then asks for --bpf-object.
        fs::write(&embedded, [])?;
    }
    Ok(())
}
