#!/usr/bin/env bash
# What a GPU does for dd: tests, ways of training, decompositions and whole commands, in one markdown table.
#
#   benchmarks/gpu_check.sh                              all parts on a GPU, at most eight minutes
#   benchmarks/gpu_check.sh training deep                some of them
#   benchmarks/gpu_check.sh --device cpu                 a trial without a GPU, small sizes
#
# Parts: tests training normalized deep modules decompositions commands reproduce bench. Each has a time limit; one that fails is a row of
# the table and stops no other. From the environment: OUT, a folder for table.md and log.txt (gpu_check/); WHEELS, a
# folder of wheels that are installed first, for this script alone; PYTHON (python3).
set -u -o pipefail
cd "$(dirname "$0")/.." || exit
SECONDS=0
DEVICE=cuda
if [ "${1:-}" = --device ]; then
  DEVICE=$2
  shift 2
fi
PARTS=${*:-tests training normalized deep modules decompositions commands reproduce bench}
OUT=${OUT:-gpu_check}
PYTHON=${PYTHON:-python3}
LIMIT=470
mkdir -p "$OUT"
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
if [ -n "${WHEELS:-}" ]; then
  "$PYTHON" -m pip install -q --no-index --no-deps --target "$SCRATCH/site" "$WHEELS"/*.whl || exit
fi
export PYTHONPATH=$PWD:$SCRATCH/site OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
: >"$OUT/log.txt"
{
  "$PYTHON" benchmarks/gpu_check.py card --device "$DEVICE"
  printf '\n| work | way | seconds | beside the first way | result |\n|---|---|---|---|---|\n'
} >"$OUT/table.md"

# part NAME SECONDS COMMAND...: run it, take its table rows, add one of its own
part() {
  local name=$1 limit=$2 rc start=$SECONDS last
  shift 2
  case " $PARTS " in *" $name "*) ;; *) return ;; esac
  [ $((LIMIT - SECONDS)) -lt "$limit" ] && limit=$((LIMIT - SECONDS))
  if [ "$limit" -lt 5 ]; then
    echo "| part $name | | | | no time was left |" >>"$OUT/table.md"
    return
  fi
  echo "== $name: $*" | tee -a "$OUT/log.txt"
  timeout -k 5 "$limit" "$@" 2>&1 | tee -a "$OUT/log.txt" | tee "$SCRATCH/last"
  rc=${PIPESTATUS[0]}
  grep '^| ' "$SCRATCH/last" >>"$OUT/table.md"
  sed -nE 's/^  (.{25}) +([0-9.]+) s +([0-9.]+ us a net and step), +([0-9.]+ x) dd(.*)$/| 1280 nets, 20 epochs | \1 | \2 | \4 | \3\5 |/p' \
    "$SCRATCH/last" | tr -s ' ' >>"$OUT/table.md"
  last=$(grep -v '^| ' "$SCRATCH/last" | tail -n 1 | tr -d '|=' | cut -c 1-100)
  [ "$rc" = 0 ] && case $name in tests | reproduce) ;; *) last= ;; esac
  echo "| part $name | | $((SECONDS - start)) | | rc $rc${last:+: $last} |" >>"$OUT/table.md"
}

check() { part "$1" "$2" "$PYTHON" benchmarks/gpu_check.py "$1" --device "$DEVICE"; }

part tests 110 "$PYTHON" -m pytest -p no:cacheprovider -n "$([ "$DEVICE" = cpu ] && echo 2 || echo 8)" \
  -o filterwarnings=error::RuntimeWarning tests/test_cuda.py
check training 120
check normalized 50
check deep 120
check modules 40
check decompositions 40
check commands 200
part reproduce 60 "$PYTHON" -m dd.reproduce "device=$DEVICE"
part bench 100 "$PYTHON" benchmarks/gpu.py --device "$DEVICE" --epochs "$([ "$DEVICE" = cpu ] && echo 1 || echo 20)"
cat "$OUT/table.md"
