#!/bin/bash
# A user's first minutes: mount, look around, copy, unmount, mount again.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh" "$@"

up_and_mount
[ "$(findmnt -no FSTYPE "$mnt")" = fuse.gabion ] || fail "findmnt: $(findmnt "$mnt")"
findmnt -no SOURCE "$mnt" | grep -q "127.0.0.1:$((port + 1)).*:/" || fail "source"

# True capacity: all six nodes lie on one disk, so it counts once, net of parity.
disk=$(df -B1 --output=size "$work" | tail -1)
shown=$(df -B1 --output=size "$mnt" | tail -1)
[ "$shown" -le $((disk * 4 / 6)) ] || fail "df shows $shown of a disk of $disk"
[ "$shown" -ge 1 ] || fail "df shows nothing"
df -i "$mnt" >/dev/null

echo hello >"$mnt/a"
mkdir "$mnt/d"
cp "$mnt/a" "$mnt/d/b"
head -c 3000000 /dev/urandom >"$work/big"
cp "$work/big" "$mnt/d/big"
mv "$mnt/d/big" "$mnt/big"
cmp "$work/big" "$mnt/big"
[ "$(ls "$mnt/d")" = b ] || fail "ls"

remount
cmp "$work/big" "$mnt/big"
[ "$(cat "$mnt/d/b")" = hello ] || fail "content after remount"

restart_all
cmp "$work/big" "$mnt/big"
[ "$(cat "$mnt/a")" = hello ] || fail "content after restart"
cluster status >"$work/status" || fail "status is not 0 on a healthy cluster"
[ "$(grep -c '^node .* pid [0-9]' "$work/status")" -eq 6 ] || fail "status: $(cat "$work/status")"
rm -r "${mnt:?}"/*
[ -z "$(ls -A "$mnt")" ] || fail "rm left something"

# A second mount of the same cluster sees the first one's closed files.
mkdir "$work/mnt2"
cluster mount "$work/mnt2" >/dev/null
echo there >"$mnt/seen"
[ "$(cat "$work/mnt2/seen")" = there ] || fail "the second mount does not see it"

# What a program sets of a file that it makes is there for others at its close.
# (crash.sh kills the mount and nodes around that.)
touch -d @1000000001 "$work/made"
chmod 604 "$work/made"
chown 12:34 "$work/made"
tar c -C "$work" made | tar x -p -C "$mnt"
made=$(stat -c '%a %u %g %Y' "$work/mnt2/made")
[ "$made" = "604 12 34 1000000001" ] || fail "others see '$made' of a file from tar"

# A name that another mount has given to another file, though this mount has
# looked at the whole directory just now.
mkdir "$mnt/moving"
touch "$mnt/moving"/{a,b,c,d,e,f}
for file in a b c d e f; do stat "$work/mnt2/moving/$file" >/dev/null; done
echo new >"$mnt/moving/new"
mv "$mnt/moving/new" "$mnt/moving/f"
[ "$(cat "$work/mnt2/moving/f")" = new ] || fail "a file that was replaced elsewhere"
cluster umount "$work/mnt2"

# A mount of a subdirectory.
mkdir -p "$mnt/sub/dir"
echo deep >"$mnt/sub/dir/f"
"$build/fusefs/gabion-fusefs" "127.0.0.1:$((port + 2)):/sub/dir" "$work/mnt2" -o log_file="$work/log2"
[ "$(cat "$work/mnt2/f")" = deep ] || fail "subdirectory mount"
fusermount3 -u "$work/mnt2"
