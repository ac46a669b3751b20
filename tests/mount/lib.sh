# Sourced by the mount tests: a cluster of its own, a mount of it, and the
# certainty that both are gone afterwards.
#
#   TEST.sh BUILD-FOLDER
#
# shellcheck shell=bash disable=SC2034,SC2120
set -eu -o pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(realpath "${1:?usage: $0 BUILD-FOLDER}")
here=$top/tests/mount
work=$(mktemp -d "${GABION_TEST_DIR:-/var/tmp}/gabion-test.XXXXXX")
mnt=$work/mnt
mkdir "$mnt"
chmod 711 "$work" # for tests as other users
# Away from the default, and from other tests that run at the same time.
port=$((20000 + $$ % 1500 * 8))
seed=${SEED:-$RANDOM}

cluster() {
    "$top/scripts/dev-cluster" --build "$build" --dir "$work/cluster" --port "$port" "$@"
}

cleanup() {
    local rc=$? pid
    set +e
    trap - EXIT
    if [ $rc -ne 0 ]; then
        echo "--- FAILED (exit $rc, seed $seed); the end of the logs:" >&2
        tail -n 15 "$work"/cluster/mount.log "$work"/cluster/node*/log >&2
    fi
    if ! timeout 60 "$top/scripts/dev-cluster" --build "$build" --dir "$work/cluster" down >/dev/null 2>&1; then
        for pid in $(cluster pids 2>/dev/null); do
            kill -9 "$pid" 2>/dev/null
        done
    fi
    findmnt -rno TARGET | grep -F "$work" | while read -r dir; do
        fusermount3 -uz "$dir" 2>/dev/null || umount -l "$dir"
    done
    rm -rf "$work"
    exit $rc
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# expect TEXT COMMAND...: it fails, and says one line that contains TEXT.
expect_error() {
    local text=$1 said
    shift
    if said=$("$@" 2>&1 >/dev/null); then
        fail "'$*' succeeded; it should have said: $text"
    fi
    grep -qF -- "$text" <<<"$said" || fail "'$*' said '$said', not: $text"
    [ "$(wc -l <<<"$said")" -eq 1 ] || fail "'$*' said more than one line: $said"
}

# wait_until SECONDS COMMAND...
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

up_and_mount() {
    cluster up "$@" >/dev/null
    cluster mount "$mnt" "${MOUNT_OPTIONS:-}" >/dev/null
}

# Unmount and mount again: nothing of the mount's memory remains.
remount() {
    cluster umount "$mnt"
    cluster mount "$mnt" "${MOUNT_OPTIONS:-}" >/dev/null
}

# The whole cluster stopped, started, mounted again.
restart_all() {
    cluster down
    up_and_mount
}

# The metadata does not contradict itself.
check_metadata() {
    "$build/ctl/gabion" fsck --metadata --cluster "127.0.0.1:$((port + 1))" >"$work/fsck" ||
        fail "fsck: $(cat "$work/fsck")"
}

node_ids() {
    seq "${N_NODES:-6}"
}

# The pid of the mount.
mount_pid() {
    cat "$work"/cluster/mounts/*
}

# A tree's content, names, modes, owners, times, links, xattrs and ACLs.
fingerprint() {
    (
        cd "$1"
        find . -printf '%P|%y|%m|%U|%G|%n|%l|%T@|%s\n' |
            awk -F'|' 'BEGIN{OFS="|"} $2=="d"{$6="";$9=""} {print}' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0r md5sum
        find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0r getfattr -h -d -m - --absolute-names 2>/dev/null
    )
}
