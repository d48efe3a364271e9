#!/usr/bin/env bash
# From a fresh clone to a searched architecture: launch/quickstart.sh [WORKDIR [FLAG...]]
#
# Searches on the embedded data, in about ten minutes on two cores. Flags go to the launcher:
#   launch/quickstart.sh runs/market --gin_file=gin/data/market1501.gin --data_dir=/data/Market-1501-v15.09.15
# The same command again goes on where it was stopped.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
workdir="${1:-$root/runs/quickstart}"
if [[ "$workdir" == -* ]]; then
  echo "quickstart: expected the folder of the results before any flag, got $workdir" >&2
  exit 2
fi

"$root/launch/setup.sh"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
"$root/.venv/bin/python" -m kdas_tf.launch --gin_file="$root/gin/search.gin" --workdir="$workdir" "${@:2}"

cat <<END

Results, in $workdir:
  search/genotype.json    the architecture and the alphas it was derived from
  search/genotype.png     its picture; alpha_normal.png and alpha_reduce.png show the alphas
  metrics.jsonl           what was measured, one line an epoch
TensorBoard:
  "$root/.venv/bin/python" -m tensorboard.main --logdir "$workdir/tensorboard"
END
