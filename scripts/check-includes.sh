#!/bin/bash
# Dependencies run one way, and each foreign API has one home.
#
#   tests -> fusefs, storaged, ctl -> proto -> common
set -eu
cd "$(dirname "$0")/.."
bad=0

sources() {
    git ls-files -co --exclude-standard '*.c' '*.h'
}

# complain FOUND WHY
complain() {
    [ -n "$1" ] || return 0
    printf '%s\n  -> %s\n' "$1" "$2" >&2
    bad=1
}

# forbid FILES-REGEX INCLUDE-REGEX WHY
forbid() {
    complain "$(sources | grep -E "$1" | xargs -r grep -nE "^ *# *include *[<\"]$2" || true)" "$3"
}

# home INCLUDE-REGEX FILES-REGEX: the only files that may include it.
home() {
    complain "$(sources | grep -vE "$2" | xargs -r grep -nE "^ *# *include *<$1" || true)" \
        "only $2 may use this library"
}

forbid '^common/' '(proto|fusefs|storaged|ctl|tests)/' 'common depends on nothing of ours'
forbid '^proto/' '(fusefs|storaged|ctl|tests)/' 'proto depends on common only'
forbid '^fusefs/' '(storaged|ctl|tests)/' 'fusefs depends on proto and common'
forbid '^storaged/' '(fusefs|ctl|tests)/' 'storaged depends on proto and common'
forbid '^ctl/' '(fusefs|storaged|tests)/' 'ctl depends on proto and common'
forbid '^fusefs/(file(_[^m][a-z]*)?|extent_map|stripe_log|read_cache|readahead|io_pool)\.' 'proto/' \
    'the file layer knows no messages'

home 'grpc' '^(common/rpc_|tests/)'
home '(jerasure|gf_complete|reed_sol|galois)' '^common/ec\.c'
home 'isa-l' '^common/checksum\.c'
home 'ini\.h' '^common/config\.c'
home 'fuse' '^fusefs/(ops|mount|main)'
home 'sqlite3' '^(storaged/block/block_index|storaged/meta/|storaged/raft/raft_log|tests/)'
home 'raft\.h' '^storaged/raft/'
home 'check\.h' '^tests/'

exit $bad
