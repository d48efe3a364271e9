#!/usr/bin/env bash
# Trains on several nodes under SLURM: sbatch [OPTION...] launch/slurm.sh FLAG...
#
#   sbatch --nodes=4 --gpus-per-node=8 launch/slurm.sh --gin_file=gin/search.gin --gin_file=gin/scale/paper.gin \
#     --gin_file=gin/data/market1501.gin --data_dir=/shared/Market-1501-v15.09.15 --workdir=/shared/runs/kdas
# Submit it from the repository. The repository, .venv (launch/setup.sh; on GPUs also
# .venv/bin/python -m pip install 'tensorflow[and-cuda]==2.21.0'), the data and the workdir must be seen by all nodes
# under the same paths. One process a node uses all of its GPUs; the batch is shared among all GPUs of all nodes.
#
# A job that is pre-empted, runs out of time or loses a node is put into the queue again, at most MAX_RESTARTS (20)
# times, and continues after its last checkpoint. A mistake in the flags ends it, with exit code 2.
# Not run with SLURM itself: none was to be had. docs/clusters.md says what was tried.
#SBATCH --job-name=kdas_tf
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

say() { echo "slurm: $*" >&2; }

again=75 # exit code of the launcher: the same command continues
root="${SLURM_SUBMIT_DIR:-$PWD}" # not this file's folder: SLURM runs a copy of it from another place
if [[ -z "${SLURM_JOB_ID:-}" ]]; then
  say "expected to be started by sbatch, as: sbatch launch/slurm.sh --gin_file=gin/search.gin"
  exit 2
fi
if [[ ! -x "$root/.venv/bin/python" || ! -d "$root/kdas_tf" ]]; then
  say "expected to be submitted from the repository, with a .venv (launch/setup.sh), got $root"
  exit 2
fi
cd "$root"

# When one worker fails, the others end with code $again, too. Only the first worker's counts, so that its mistakes are
# not taken for the loss of a node. The number that srun gives back is the greatest of all.
# shellcheck disable=SC2016  # for the shell of each task
worker='"$@"; code=$?; [[ $code == '"$again"' && $SLURM_PROCID != 0 ]] && exit 0; exit $code'
code=0
srun --ntasks-per-node=1 --kill-on-bad-exit=0 bash -c "$worker" worker \
  .venv/bin/python -m kdas_tf.launch "$@" || code=$?

if [[ "$code" != "$again" && "$code" -lt 128 ]]; then
  exit "$code"
fi
if [[ "${SLURM_RESTART_COUNT:-0}" -ge "${MAX_RESTARTS:-20}" ]]; then
  say "ended with code $code for the $((SLURM_RESTART_COUNT + 1)). time; not queued again"
  exit "$code"
fi
say "ended with code $code; queued again, to continue after the last checkpoint"
scontrol requeue "$SLURM_JOB_ID"
