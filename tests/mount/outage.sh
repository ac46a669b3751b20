#!/bin/bash
# Nodes away: writes go on with one, fail in time with too many, and everything
# works again by itself; a killed fusefs can be unmounted.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh" "$@"

export MOUNT_OPTIONS=timeout=5s
up_and_mount
head -c 5M /dev/urandom >"$work/data"

echo "one node down"
cluster kill 4
cp "$work/data" "$mnt/one" || fail "a write with one node down"
sync -f "$mnt"
cmp "$work/data" "$mnt/one"

echo "two nodes down: too few for k+1"
cluster kill 5
start=$SECONDS
if dd if="$work/data" of="$mnt/two" bs=1M conv=fsync 2>"$work/dd"; then
    fail "a write was acknowledged with 4 of 6 blocks"
fi
[ $((SECONDS - start)) -le 20 ] || fail "the failure took $((SECONDS - start)) s"
remount_not_needed() {
    dd if="$work/data" of="$mnt/two" bs=1M conv=fsync 2>/dev/null && cmp -s "$work/data" "$mnt/two"
}
cmp "$work/data" "$mnt/one" || fail "reads with two nodes down"
cluster start 4
cluster start 5
wait_until 30 remount_not_needed || fail "writes do not recover"

echo "all nodes down"
for id in $(node_ids); do
    cluster kill "$id"
done
start=$SECONDS
ls "$mnt/absent" 2>/dev/null && fail "found something"
stat "$mnt/other" >/dev/null 2>&1 && fail "found something"
echo x 2>/dev/null >"$mnt/new" && fail "created something"
[ $((SECONDS - start)) -le 40 ] || fail "calls took $((SECONDS - start)) s"
cluster up >/dev/null
works() {
    cmp -s "$work/data" "$mnt/one" && echo again >"$mnt/again" && [ "$(cat "$mnt/again")" = again ]
}
wait_until 30 works || fail "the mount does not recover"

echo "the mount stopped in the middle"
kill -9 "$(mount_pid)"
stat "$mnt/one" >/dev/null 2>&1 && fail "alive after kill -9"
fusermount3 -u "$mnt" || fail "fusermount3 -u after kill -9"
cluster umount "$mnt"
cluster mount "$mnt" >/dev/null
cmp "$work/data" "$mnt/one"

echo "a frozen node costs a moment, not the mount"
pid=$(cat "$work/cluster/node3/pid")
kill -STOP "$pid"
cp "$work/data" "$mnt/frozen" || { kill -CONT "$pid"; fail "write with a frozen node"; }
cmp "$work/data" "$mnt/frozen" || { kill -CONT "$pid"; fail "read with a frozen node"; }
kill -CONT "$pid"

echo "the mount frozen until its session has expired"
python3 "$here/freeze.py" "$mnt/thawed" "$(mount_pid)" 17
check_metadata
