# Runs a command in a cgroup like a pod's and in a network namespace of its own.
for mount in /sys/fs/cgroup/unified /sys/fs/cgroup; do
    if [ -d "$mount/kubepods" ]; then break; fi
done
pod=$mount/kubepods/besteffort/pod$1
shift
mkdir -p "$pod/first"
sh -ec 'echo 0 > "$0/cgroup.procs"; exec unshare --net "$@"' "$pod/first" "$@"
rmdir "$pod/first" "$pod"
