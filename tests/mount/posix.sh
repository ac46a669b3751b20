#!/bin/bash
# What POSIX and Linux promise of single calls; see posix.py.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh" "$@"

up_and_mount
python3 "$here/posix.py" "$mnt"

# ACLs by the tools people use.
mkdir "$mnt/acl"
setfacl -m u:1234:rwx,d:g:77:r-x "$mnt/acl"
getfacl -cn "$mnt/acl" | grep -q '^user:1234:rwx' || fail "acl not kept"
touch "$mnt/acl/child"
getfacl -cn "$mnt/acl/child" | grep -q '^group:77:r-x' || fail "default acl not inherited"
mkdir "$mnt/acl/sub"
getfacl -cn "$mnt/acl/sub" | grep -q '^default:group:77:r-x' || fail "default acl not inherited by a directory"

# cp of a big file shares its extents: no bytes move.
head -c 64M /dev/urandom >"$mnt/big"
sync -f "$mnt"
before=$(du -s --block-size=1 "$work"/cluster/node*/data | awk '{s+=$1} END {print s}')
cp "$mnt/big" "$mnt/copy"
sync -f "$mnt"
after=$(du -s --block-size=1 "$work"/cluster/node*/data | awk '{s+=$1} END {print s}')
[ $((after - before)) -lt 8000000 ] || fail "cp stored $((after - before)) bytes"
cmp "$mnt/big" "$mnt/copy"
rm "$mnt/big"
remount
[ "$(stat -c %s "$mnt/copy")" -eq $((64 << 20)) ] || fail "copy"
cat "$mnt/copy" >/dev/null

# Deleting gives the space back.
rm "$mnt/copy"
space_is_back() {
    [ "$(du -s --block-size=1 "$work"/cluster/node*/data | awk '{s+=$1} END {print s}')" -lt $((before - 50000000)) ]
}
wait_until 60 space_is_back || fail "the space of a deleted file is not given back"
check_metadata
