#!/usr/bin/env bash
# Every experiment file, shrunk: the plan in seconds, and a run from end to end on made-up data, two at a time.
#   .ci/check_tiny.sh STOCKPOT OUT
set -euo pipefail
stockpot=$1 out=$2
mkdir -p "$out"
export OMP_NUM_THREADS=1 stockpot out

one() {
  name=$(echo "${1#experiments/}" | tr / - | sed 's/\.yaml$//')
  "$stockpot" run "$1" --dry-run > "$out/$name.plan"
  if ! "$stockpot" run "$1" --tiny --workers 1 -o "$out/$name" > "$out/$name.log" 2>&1; then
    printf '%s --tiny failed:\n' "$1"
    tail -20 "$out/$name.log"
    exit 255
  fi
  echo "$1: $(sed -n 1p "$out/$name.plan"), tiny run ended"
  rm -rf "${out:?}/$name" "$out/$name-made-up"
}
export -f one
grep -l '^sweep:' experiments/*/*.yaml | xargs -P 2 -I{} bash -c 'one {}'
