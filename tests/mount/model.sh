#!/bin/bash
# Random operations on a mount against a model in memory, on a healthy cluster
# and while nodes die and return.
#
#   OPS=n SEED=s
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh" "$@"
RANDOM=$seed
ops=${OPS:-3000}

up_and_mount
mkdir "$mnt/quiet" "$mnt/storm"
echo "quiet, seed $seed"
python3 "$here/model.py" "$mnt/quiet" "$ops" "$seed"

echo "storm, seed $seed"
python3 "$here/model.py" "$mnt/storm" "$ops" "$((seed + 1))" &
load=$!
while kill -0 $load 2>/dev/null; do
    # Node 1 serves the metadata; one data node at a time, so that writes go on.
    victim=$((RANDOM % 5 + 2))
    cluster kill $victim
    sleep "0.$((RANDOM % 9 + 1))"
    cluster start $victim
    sleep "0.$((RANDOM % 9 + 1))"
done
wait $load
check_metadata
