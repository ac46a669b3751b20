#!/bin/bash
# Format all C sources in place; with --check only complain.
set -eu
cd "$(dirname "$0")/.."
mode=(-i)
[ "${1:-}" != --check ] || mode=(--dry-run --Werror)
git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format "${mode[@]}"
