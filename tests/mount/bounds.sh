#!/bin/bash
# What is stored and what is used stays in bounds: 1 GiB takes at most 1.52 GiB,
# and fusefs stays under cache_size + 128 MiB while it copies a lot.
#
#   COPY_GIB=n    how much to copy (default 2; 8 is the full check)
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh" "$@"

up_and_mount
stored() {
    sync
    du -sc --block-size=1 "$work"/cluster/node*/data | tail -1 | cut -f1
}

before=$(stored)
head -c 1G /dev/urandom >"$mnt/gib"
sync -f "$mnt"
ratio=$((($(stored) - before) * 1000 / (1 << 30)))
echo "1 GiB is stored in $ratio / 1000 GiB"
[ $ratio -le 1520 ] || fail "1 GiB takes $ratio / 1000 GiB"

for _ in $(seq "${COPY_GIB:-2}"); do
    dd if="$mnt/gib" bs=1M status=none | dd of="$mnt/copy" bs=1M conv=notrunc oflag=append status=none
done
peak=$(awk '/^VmHWM/ {print $2}' "/proc/$(mount_pid)/status")
echo "fusefs used at most $((peak / 1024)) MiB"
[ "$peak" -le $(((256 + 128) * 1024)) ] || fail "fusefs used $((peak / 1024)) MiB"
cmp <(head -c 1G "$mnt/copy") "$mnt/gib"
