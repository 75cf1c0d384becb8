#!/bin/sh
# First process of a node: makes the node's view of the machine and then waits. It is started in the node's network
# namespace and cgroups, in a mount and a cgroup namespace of its own.
#
#   init.sh GROUP FOLDER    GROUP: the node's cgroup below each hierarchy's mount; FOLDER: the node's own, which gets a
#                           file `ready` in the end
set -eu
group=$1 folder=$2

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
# Sockets, logs and state in the places where programs of every node expect them are the node's own.
mount -t tmpfs node /run
mkdir "$folder/var" "$folder/var.work"
mount -t overlay node -o "lowerdir=/var,upperdir=$folder/var,workdir=$folder/var.work" /var
# What containerd mounts for a pod is to be seen by the node, and the other way round.
mount --make-rshared /

touch "$folder/ready"
exec sleep infinity
