#!/bin/bash
# Full nodes: ENOSPC, nothing half-written, deleting works and gives room again.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh" "$@"
[ "$(id -u)" -eq 0 ] || exit 77 # needs small filesystems

unmount_small() {
    cluster down >/dev/null 2>&1
    for id in $(node_ids); do
        umount "$work/small$id" 2>/dev/null
    done
}
trap 'rc=$?; set +e; unmount_small; (exit $rc); cleanup' EXIT

cluster up >/dev/null
cluster down
for id in $(node_ids); do
    mkdir "$work/small$id"
    mount -t tmpfs -o size=120m gabion-test "$work/small$id"
    rm -rf "$work/cluster/node$id/data"
    mkdir "$work/small$id/data"
    ln -s "$work/small$id/data" "$work/cluster/node$id/data"
    echo "reserve = 8M" >>"$work/cluster/node$id/storaged.conf"
done
up_and_mount

echo "keep" >"$mnt/keep"
head -c 20M /dev/urandom >"$work/good"
cp "$work/good" "$mnt/good"
sync -f "$mnt"

echo "filling"
if dd if=/dev/urandom of="$mnt/fill" bs=1M count=700 conv=fsync 2>"$work/dd"; then
    fail "700 MiB fit into 6 x 120 MiB at 4+2"
fi
grep -q 'No space left' "$work/dd" || fail "not ENOSPC: $(cat "$work/dd")"
cmp "$work/good" "$mnt/good" || fail "an older file is damaged"
[ "$(cat "$mnt/keep")" = keep ] || fail "a small file is damaged"
[ "$(df --output=avail -B1M "$mnt" | tail -1)" -lt 40 ] || fail "df: $(df -h "$mnt")"

echo "filling with small files: they lie with the metadata"
n=0
while [ $n -lt 5000 ] && head -c 16000 /dev/urandom >"$mnt/small$n" 2>>"$work/small"; do
    n=$((n + 1))
done
[ $n -lt 5000 ] || fail "$n files of 16000 bytes fit into nothing"
[ "$(cat "$mnt/keep")" = keep ] || fail "a small file is damaged"

echo "deleting"
rm "$mnt"/small*
rm "$mnt/fill"
has_room() {
    cp "$work/good" "$mnt/again" 2>/dev/null && sync -f "$mnt" && cmp -s "$work/good" "$mnt/again"
}
wait_until 60 has_room || fail "no room after deleting"
restart_all
cmp "$work/good" "$mnt/again"
cmp "$work/good" "$mnt/good"
check_metadata
