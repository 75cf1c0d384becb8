#!/bin/busybox sh
# shellcheck shell=dash
# First program of a virtual machine of `cargo xtask vm-test`: brings what the disks need and goes
# to the root file system. If it fails it ends, which the kernel takes for a panic, and the machine
# goes off without the marker.
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
exec >/dev/ttyS1 2>&1
set -e
while read -r module; do
    $bb insmod "/modules/$module"
done </modules/order
tries=0
until [ -b /dev/vda ] && [ -b /dev/vdb ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ]
    $bb sleep 0.1
done
$bb mount -t ext4 /dev/vda /root
$bb mount -t ext4 -o ro /dev/vdb /root/usr/lib/modules
$bb mount -o move /dev /root/dev
exec $bb switch_root /root /vm/guest
