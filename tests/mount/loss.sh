#!/bin/bash
# Lost and damaged blocks: any two of six block sets gone, every byte reads back;
# three gone, EIO; a flipped bit anywhere is read around.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh" "$@"

up_and_mount

# Sizes at every boundary: inline limit, unit, stripe, object, several objects.
python3 "$here/content.py" write "$mnt" 0 1 16383 16384 16385 \
    262143 262144 262145 1048575 1048576 1048577 \
    67108863 67108864 67108865 150000000
sync -f "$mnt"
cluster umount "$mnt"

lose() {
    local id
    for id in "$@"; do
        cluster stop "$id"
        mv "$work/cluster/node$id/data/blocks" "$work/lost$id"
        cluster start "$id"
    done
}

bring_back() {
    local id
    for id in "$@"; do
        cluster stop "$id"
        rm -rf "$work/cluster/node$id/data/blocks"
        mv "$work/lost$id" "$work/cluster/node$id/data/blocks"
        cluster start "$id"
    done
}

echo "all pairs"
for a in 1 2 3 4 5; do
    for b in $(seq $((a + 1)) 6); do
        lose $a "$b"
        cluster mount "$mnt" >/dev/null
        python3 "$here/content.py" verify "$mnt" || fail "blocks of nodes $a and $b lost"
        cluster umount "$mnt"
        bring_back $a "$b"
    done
done

echo "three lost"
lose 2 4 5
cluster mount "$mnt" >/dev/null
python3 "$here/content.py" lost "$mnt" || fail "three lost: not EIO"
cluster umount "$mnt"
bring_back 2 4 5

echo "flipped bits, seed $seed"
for round in 1 2 3 4; do
    python3 "$here/flip.py" "$((seed + round))" "$work"/cluster/node[1-6]/data/blocks/segments/*
    cluster mount "$mnt" >/dev/null
    python3 "$here/content.py" verify "$mnt" || fail "flipped bit, round $round"
    cluster umount "$mnt"
done
