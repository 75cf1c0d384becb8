#!/bin/sh
# shellcheck shell=dash
# What a virtual machine of `cargo xtask vm-test` does: mounts what a node has, runs /vm/plan,
# writes the marker, goes off. The only cgroup hierarchy is cgroup2, at its usual place.
export PATH=/usr/sbin:/usr/bin HOME=/root CI=true RUST_BACKTRACE=0
# An emulated processor is ten to twenty times slower, more so on a busy machine.
export PROXY_E2E_SLOWNESS=6
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 run /run
# Not over /tmp: programs are at their host's paths, and a workspace may be there.
mkdir -m 1777 /run/tmp
export TMPDIR=/run/tmp
ip link set lo up
# An agent has programs timed now and again, and the kernel patches a branch of each place that runs one. QEMU 7.2
# may run such a place as it was before, and the kernel dies of it (`Oops: int3`): timed all along, nothing is patched.
echo 1 >/proc/sys/kernel/bpf_stats_enabled
# The kernel's own hard limit is 4,096; container runtimes and systemd give more.
ulimit -n 65536

# NAME SECONDS COMMAND…
suite() {
    name=$1 seconds=$2
    shift 2
    echo "vm-test: begin $name"
    timeout "$seconds" "$@"
    echo "vm-test: status $? of $name"
}

echo "vm-test: kernel $(uname -r)"
# shellcheck source=/dev/null
. /vm/plan
echo "vm-test: end"
# What was written is still on its way through the serial line.
sleep 1
echo o >/proc/sysrq-trigger
sleep 60
