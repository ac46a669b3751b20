#!/bin/bash
# Everything that can be said about the sources without running them: include
# directions, format, shellcheck, cppcheck, clang-tidy.
set -eu -o pipefail
cd "$(dirname "$0")/.."

echo "lint: includes"
scripts/check-includes.sh
echo "lint: format"
scripts/format.sh --check
echo "lint: shell"
git ls-files -co --exclude-standard scripts tests .ci | xargs grep -lE '^#!/bin/bash' |
    xargs shellcheck -x -S warning

dir=build-lint
[ -f $dir/build.ninja ] || CC=clang meson setup $dir -Dbuildtype=debug >/dev/null
# Generated headers must exist before any source can be parsed.
ninja -C $dir --quiet proto/block.pb-c.h proto/cluster.pb-c.h proto/metadata.pb-c.h proto/raft.pb-c.h

echo "lint: cppcheck"
cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr -j "$(nproc)" \
    --enable=warning,performance,portability --library=posix \
    --suppress=missingIncludeSystem --suppress=unknownMacro --suppress='*:*.pb-c.h' \
    --suppress=readdirCalled `# glibc's is safe on streams of one's own` \
    -D_GNU_SOURCE -I. -I$dir common proto fusefs storaged ctl

echo "lint: clang-tidy"
git ls-files -co --exclude-standard 'common/*.c' 'proto/*.c' 'fusefs/*.c' 'storaged/*.c' 'ctl/*.c' |
    xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p $dir 2>/dev/null
echo "lint: clean"
