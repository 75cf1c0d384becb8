#!/bin/sh
# systemd for a node whose kubelet leaves cgroups to it: the first process of a process namespace of its own, started in
# the node's other namespaces. It knows no unit but one that wants nothing, so that it does to the machine what kubelet
# and containerd ask it for, and no more.
#
#   systemd.sh FOLDER    FOLDER: the node's own
set -eu
folder=$1

# What is its own group at its start is for systemd the root of all; of `init.scope` it knows that it is not.
awk '$3 == "cgroup" { print $2 }' /proc/self/mounts | while read -r hierarchy; do
    echo $$ > "$hierarchy/cgroup.procs"
done
awk '$3 == "cgroup2" { print $2 }' /proc/self/mounts | while read -r hierarchy; do
    mkdir -p "$hierarchy/init.scope"
    echo $$ > "$hierarchy/init.scope/cgroup.procs"
done

mkdir -p "$folder/units"
printf '[Unit]\nDescription=Nothing\n' > "$folder/units/nothing.target"
export SYSTEMD_UNIT_PATH="$folder/units" SYSTEMD_GENERATOR_PATH="$folder/units"
# It leaves alone what is the machine's if it takes itself for one in a container.
export container=node
# The processes of its namespace are for it to see, and for nobody else of the node.
mount --make-private /proc
exec unshare --pid --fork --kill-child --uts --mount --propagation unchanged --mount-proc \
    /lib/systemd/systemd --system --unit=nothing.target --log-level=err
