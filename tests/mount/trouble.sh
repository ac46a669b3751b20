#!/bin/bash
# Bad input gets one clear line that names what and where, and a non-zero exit.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh" "$@"
fusefs=$build/fusefs/gabion-fusefs
storaged=$build/storaged/gabion-storaged

up_and_mount
seed_node=127.0.0.1:$((port + 1))
other=$work/other
mkdir "$other"

echo "mount"
expect_error "frobnicate" "$fusefs" "$seed_node:/" "$other" -o frobnicate=1
expect_error "cache_size" "$fusefs" "$seed_node:/" "$other" -o cache_size=lots
expect_error "timeout" "$fusefs" "$seed_node:/" "$other" -o timeout=-3
expect_error "$work/absent" "$fusefs" "$seed_node:/" "$work/absent"
touch "$work/file"
expect_error "$work/file" "$fusefs" "$seed_node:/" "$work/file"
mkdir "$work/full"
touch "$work/full/x"
expect_error "not empty" "$fusefs" "$seed_node:/" "$work/full"
expect_error "127.0.0.1:1" "$fusefs" "127.0.0.1:1:/" "$other" -o timeout=1s
expect_error "nowhere" "$fusefs" "$seed_node:/nowhere" "$other"
expect_error "no-source" "$fusefs" no-source "$other"
expect_error "$work/absent.conf" "$fusefs" "$seed_node:/" "$other" -o "conf=$work/absent.conf"
expect_error "none of 2 nodes" "$fusefs" "127.0.0.1:1,127.0.0.1:2:/" "$other" -o timeout=1s,pid_file="$work/pid"
[ ! -e "$work/pid" ] || fail "a mount that failed leaves its pid file"
! findmnt -n "$other" >/dev/null || fail "something was mounted"
"$fusefs" "$seed_node:/" "$other" -o _netdev,nofail,noatime,x-systemd.automount,comment=hi,defaults,rw
fusermount3 -u "$other"
if [ "$(id -u)" -eq 0 ]; then
    unshare -m bash -c "mount -t tmpfs none /dev && $(printf '%q ' "$fusefs" "$seed_node:/" "$other")" 2>"$work/said" &&
        fail "mounted without /dev/fuse"
    grep -q '/dev/fuse' "$work/said" || fail "no /dev/fuse: $(cat "$work/said")"

    # What fusermount3 says to those who may not mount there.
    chmod 711 "$work"
    nobody() {
        setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"
    }
    if nobody test -x "$fusefs"; then
        expect_error "no write access to mountpoint $other" unshare -m bash -c "
            mount -t tmpfs none /dev && mknod -m 666 /dev/fuse c 10 229 && mknod -m 666 /dev/null c 1 3 &&
            setpriv --reuid=65534 --regid=65534 --clear-groups -- $(printf '%q ' "$fusefs" "$seed_node:/" "$other")"
    fi
fi

echo "dev-cluster"
expect_error "nothing is mounted" cluster umount "$work/full"
expect_error "no node 9" cluster kill 9
expect_error "--nodes" cluster up --nodes many
cluster mount "$mnt" >/dev/null || fail "mounting what is mounted already is no failure"
cluster mount "$other" >/dev/null
kill -9 "$(cat "$work"/cluster/mounts/*other)"
wait_until 10 bash -c "! ls '$other' 2>/dev/null" || fail "a mount outlives its program"
cluster status >"$work/said"
grep -qF "mount $other (its program has died)" "$work/said" || fail "status does not show a dead mount"
cluster mount "$other" >/dev/null || fail "a dead mount is in the way"
cluster umount "$other"
cluster mount "$other" timeout=2s >/dev/null
exec 5>"$other/unsaved"
head -c 100000 /dev/urandom >&5
for id in 1 2 3 4 5 6; do
    cluster kill $id
done
head -c 100000 /dev/urandom >&5
exec 5>&-
expect_error "could not be saved" cluster umount "$other"
cluster up >/dev/null

echo "storaged"
conf() { # NAME LINES...
    printf '%s\n' "${@:2}" >"$work/$1.conf"
    echo "$work/$1.conf"
}
expect_error "$work/absent.conf" "$storaged" --config "$work/absent.conf"
expect_error "frob" "$storaged" --frob
expect_error "bad.conf:2" "$storaged" --config "$(conf bad '[node]' 'colour = red')"
expect_error "bad.conf:2" "$storaged" --config "$(conf bad '[node]' 'id = zero')"
expect_error "bad.conf:1" "$storaged" --config "$(conf bad 'this is not ini')"
if [ "$(id -u)" -ne 0 ]; then
    chmod 000 "$work/bad.conf"
    expect_error "bad.conf" "$storaged" --config "$work/bad.conf"
fi
c=$work/cluster
expect_error "$c/node1/data" "$storaged" --config "$c/node1/storaged.conf" # a second daemon
mkdir "$work/data"
expect_error "$((port + 2))" "$storaged" --config "$(conf taken '[node]' 'id = 2' "data = $work/data" "cluster = $c/cluster.conf")"
sed 's/^id = .*/id = 00000000deadbeef/' "$c/cluster.conf" >"$work/cluster2.conf"
cluster stop 6
expect_error "another cluster" "$storaged" --config "$(conf alien '[node]' 'id = 6' "data = $c/node6/data" "cluster = $work/cluster2.conf")"
expect_error "node 6" "$storaged" --config "$(conf alien '[node]' 'id = 5' "data = $c/node6/data" "cluster = $c/cluster.conf" "listen = 127.0.0.1:0")"
mkdir "$work/used"
touch "$work/used/something"
expect_error "$work/used" "$storaged" --config "$(conf used '[node]' 'id = 6' "data = $work/used" "cluster = $c/cluster.conf")"
cp -a "$c/node6/data" "$work/newer"
sed -i 's/^\(format *= *\).*/\1999/' "$work/newer/superblock"
expect_error "newer" "$storaged" --config "$(conf newer '[node]' 'id = 6' "data = $work/newer" "cluster = $c/cluster.conf")"
cluster start 6

echo "hostile bytes"
python3 - "$((port + 1))" <<'PY'
import os, socket, sys
for i in range(200):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if i % 2 else b""
    try:
        s.sendall(start + os.urandom(i * 37 % 5000))
    except OSError:
        pass
    s.close()
PY
echo alive >"$mnt/alive"
[ "$(cat "$mnt/alive")" = alive ] || fail "the daemon does not go on after garbage"
cluster status >/dev/null || fail "a node died of garbage"
