#!/bin/bash
# Real programs on real trees, then everything again, bit by bit, after unmount,
# down, up and mount.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh" "$@"

n_files=${N_FILES:-2000}
up_and_mount

# A tree with all that trees have: sources with a .git, hard links, symlinks,
# xattrs, ACLs, sparse files, odd names, empty and large files, special files.
src=$work/src
mkdir "$src"
git -C "$top" archive --format=tar HEAD 2>/dev/null | tar x -C "$src" || cp -a "$top/common" "$top/scripts" "$src/"
(
    cd "$src"
    git init -q .
    git add -A
    git -c user.name=t -c user.email=t@localhost commit -qm one
    mkdir many odd
    python3 - "$n_files" <<'PY'
import os, random, sys
random.seed(5)
for i in range(int(sys.argv[1])):
    d = f"many/{i % 40}"
    os.makedirs(d, exist_ok=True)
    size = random.choice([0, 1, 100, 3000, 16383, 16384, 16385, 40000, 200000])
    with open(f"{d}/f{i}", "wb") as f:
        f.write(random.randbytes(size))
    os.utime(f"{d}/f{i}", ns=(10**18 + i, 10**18 + i * 1001))
for name in [b"sp ace", b"new\nline", b"\xff\xfe", b"-dash", b"'quote\"", b"x" * 255]:
    with open(b"odd/" + name, "wb") as f:
        f.write(name)
PY
    ln many/1/f1 odd/hardlink
    ln -s ../many/1/f1 odd/symlink
    ln -s /nowhere odd/dangling
    truncate -s 300M odd/sparse
    printf data | dd of=odd/sparse bs=1 seek=100000000 conv=notrunc status=none
    head -c 9M /dev/urandom >odd/large
    setfattr -n user.comment -v "a value" odd/large
    setfacl -m u:1001:r odd/large
    mkfifo odd/fifo
    chmod 2750 many/3
    chown 1001:1002 many/4/f4
    touch -d '1999-12-31 23:59:59.123456789' many/5
)
fingerprint "$src" >"$work/want"

echo "rsync"
rsync -aHAX --sparse "$src/" "$mnt/rsync/"
[ -z "$(rsync -aHAXn --itemize-changes "$src/" "$mnt/rsync/")" ] || fail "rsync finds differences"
[ $(($(stat -c '%b*512' "$mnt/rsync/odd/sparse"))) -lt 1000000 ] || fail "the sparse file is not sparse"
echo "cp"
cp -a "$src" "$mnt/cp"
echo "cp within"
cp -a "$mnt/cp" "$mnt/cp2"
echo "tar"
tar c --acls --xattrs --sparse -f "$work/src.tar" -C "$src" .
mkdir "$mnt/tar"
tar x --acls --xattrs --xattrs-include='*' -f "$work/src.tar" -C "$mnt/tar"

same() {
    local tree
    for tree in rsync cp cp2 tar; do
        fingerprint "$mnt/$tree" >"$work/got"
        diff "$work/want" "$work/got" >"$work/diff" || fail "$1: $tree differs: $(head -20 "$work/diff")"
    done
}
same "at once"

echo "git"
git clone -q --no-hardlinks "$src/.git" "$mnt/clone"
git -C "$mnt/clone" fsck --full --strict 2>&1 | grep -v '^notice' && fail "git fsck"
[ -z "$(git -C "$mnt/clone" status --porcelain)" ] || fail "git status after clone"
git -C "$mnt/clone" gc -q

echo "build"
rsync -a --exclude '/build*' "$top/" "$mnt/project"
meson setup "$mnt/project/build" "$mnt/project" -Dtests=true >"$work/meson.log" || fail "$(tail "$work/meson.log")"
ninja -C "$mnt/project/build" tests/unit/test_ec tests/unit/test_placement >"$work/ninja.log" || fail "$(tail "$work/ninja.log")"
"$mnt/project/build/tests/unit/test_ec" >/dev/null || fail "a program built on the mount does not run"

echo "sqlite"
python3 - "$mnt/db" <<'PY'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("create table t(id integer primary key, v text)")
for i in range(1000):
    db.execute("begin")
    db.execute("insert into t values(?, ?)", (i, f"value {i}" * 20))
    db.execute("commit")
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
PY

check_metadata
restart_all
echo "after restart"
same "after restart"
git -C "$mnt/clone" fsck --full 2>&1 | grep -v '^notice' && fail "git fsck after restart"
[ "$(sqlite3 "$mnt/db" 'pragma integrity_check; select count(*) from t')" = "ok
1000" ] || fail "sqlite after restart"
rm -rf "${mnt:?}"/*
[ -z "$(ls -A "$mnt")" ] || fail "rm -rf left something"
