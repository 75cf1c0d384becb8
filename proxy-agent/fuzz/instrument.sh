#!/bin/sh
# A compiler for the crates of this workspace that notes which of their branches are taken, for
# libFuzzer: RUSTC_WORKSPACE_WRAPPER of `cargo xtask fuzz`. Crates of others are built as ever, and
# shared with other builds.
set -eu
case " $* " in
*" build_script_build "*) exec "$@" ;;
esac
exec "$@" -Copt-level=1 -Cdebug-assertions=on -Coverflow-checks=on \
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
