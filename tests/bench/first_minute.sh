#!/usr/bin/env bash
# Measure the first minute with charrnn, from a wheel, in an environment outside the clone: seconds,
# seconds of processor time, the size of the environment's files after each part (1 MB is a million
# bytes) and of the compiled Python (.pyc) among them, as a Markdown table.
#
# tests/bench/first_minute.sh [FOLDER]     # a new one by default; torch as pip finds it here
set -euo pipefail
clone=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
bin=$folder/venv/bin

part() { # NAME COMMAND...: run it, print a row
  local name=$1 before=$SECONDS cpu
  shift
  TIMEFORMAT='%U %S'
  cpu=$({ time "$@" >>"$folder/log" 2>&1; } 2>&1)
  printf '| %s | %d | %.0f | %.0f | %.0f |\n' "$name" $((SECONDS - before)) \
    "$(awk '{print $1 + $2}' <<<"$cpu")" "$(megabytes '*')" "$(megabytes '*.pyc')"
}

megabytes() { # PATTERN: the files of the environment that are called so
  find "$folder/venv" -type f -name "$1" -printf '%s\n' | awk '{sum += $1} END {print sum / 1e6}'
}

python3 -m build --wheel --outdir "$folder/dist" "$clone" >"$folder/log" 2>&1
cp "$clone/data/example.csv" "$folder"
cd "$folder"
echo "$(date -u +%F), $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2- | xargs), $(nproc) cores"
echo "| | seconds | processor seconds | MB | of them .pyc |"
echo "|---|---:|---:|---:|---:|"
part "environment" python3 -m venv venv
part "torch" "$bin/pip" install -c "$clone/constraints.txt" torch
part "charrnn" "$bin/pip" install -c "$clone/constraints.txt" dist/*.whl
part "first answers" "$bin/charrnn" score example.csv --head 6
part "answers again" "$bin/charrnn" score example.csv --head 6 --force
part "extra train" "$bin/pip" install -c "$clone/constraints.txt" 'charrnn-names[train]'
