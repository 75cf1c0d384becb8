#!/bin/sh
# First process of a node: makes the node's view of the machine and then waits. It is started in the node's network
# namespace and cgroups, in a mount and a cgroup namespace of its own.
#
#   init.sh GROUP READY    GROUP: the node's cgroup below each hierarchy's mount; READY: the file that says "done"
set -eu
group=$1 ready=$2

# Nothing mounted here is seen by the machine.
mount --make-rprivate /
view=$(mktemp -d)
# Each hierarchy begins at the node's own group, as on a machine of its own. Last mounted, first replaced.
awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts | tac | while read -r hierarchy; do
    mount --bind "$hierarchy/$group" "$view"
    umount "$hierarchy"
    mount --move "$view" "$hierarchy"
    # A group with processes of its own cannot pass controllers on to its children: those of the system move aside.
    echo $$ > "$hierarchy/system/init/cgroup.procs"
done
rmdir "$view"
# What containerd mounts for a pod is to be seen by the node, and the other way round.
mount --make-rshared /

touch "$ready"
exec sleep infinity
