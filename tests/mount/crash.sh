#!/bin/bash
# kill -9 of storage nodes and of the mount at random moments of a write load:
# everything fsynced is there and right, nothing is corrupt.
#
#   ROUNDS=n SEED=s
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh" "$@"
RANDOM=$seed
rounds=${ROUNDS:-12}

export MOUNT_OPTIONS=timeout=20s
up_and_mount
mkdir "$work/journal"
for round in $(seq "$rounds"); do
    python3 "$here/crash_load.py" "$mnt" "$work/journal/$round" "$((seed * 100 + round))" 2>"$work/load.err" &
    load=$!
    sleep "$((RANDOM % 3)).$((RANDOM % 10))"
    if [ $((round % 3)) -eq 0 ]; then
        victim=mount
        kill -9 "$(mount_pid)"
    else
        victim="node $((RANDOM % 6 + 1))"
        cluster kill "${victim#node }"
        sleep "0.$((RANDOM % 10))"
        cluster start "${victim#node }"
    fi
    if [ "$victim" = mount ]; then
        wait $load || true # its calls fail with ENOTCONN
        fusermount3 -u "$mnt" || fail "the mount point of a killed fusefs cannot be unmounted"
        cluster umount "$mnt"
        cluster mount "$mnt" "$MOUNT_OPTIONS" >/dev/null
    else
        touch "$work/journal/$round.stop"
        wait $load || fail "round $round: the load failed after $victim was killed and restarted: $(cat "$work/load.err")"
    fi
    python3 "$here/crash_check.py" "$mnt" "$work"/journal || fail "round $round: $victim was killed"
done
remount
python3 "$here/crash_check.py" "$mnt" "$work"/journal || fail "after a remount"
restart_all
python3 "$here/crash_check.py" "$mnt" "$work"/journal || fail "after a restart of all"
check_metadata
echo "$rounds rounds, seed $seed: $(cat "$work"/journal/* | wc -l) promises kept"
