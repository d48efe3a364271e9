#!/usr/bin/env bash
# Lint, format, types, tests; stops at the first that fails: launch/test.sh [PYTEST ARGUMENT...]
#
# Without arguments: all tests but the slow ones. launch/test.sh tests: all tests. Other arguments go to pytest too.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Runs a command as a named stage and prints what it took.
stage() {
  local name="$1" status=0 begin="$SECONDS"
  shift
  echo "== $name"
  "$@" || status=$? # of pytest also 5, when no test was collected
  if [[ "$status" -ne 0 ]]; then
    echo "== $name failed after $((SECONDS - begin)) s" >&2
    exit "$status"
  fi
  echo "== $name: $((SECONDS - begin)) s"
}

stage "set-up" "$root/launch/setup.sh" --dev
cd "$root"
python="$root/.venv/bin/python"
case "$*" in
  "") set -- -m "not slow" && deterministic="(deterministic or both_graphs) and not slow" ;;
  tests) deterministic="deterministic or both_graphs" ;;
  *) deterministic="" ;;
esac
stage "ruff check" "$python" -m ruff check
stage "ruff format" "$python" -m ruff format --check
stage "mypy" "$python" -m mypy
# Two processes, because most of a test's time is tracing, the work of one thread. A file's tests stay together and in
# order, so that they share what they make; long files do not come last. A process that dies fails its test and is not
# replaced: pytest-xdist waits forever for the tests of a replaced process.
parallel=(--numprocesses=2 --max-worker-restart=0 --dist=loadfile --no-loadscope-reorder)
stage "pytest" "$python" -m pytest "${parallel[@]}" "$@"
# Deterministic operations cannot be switched off again in a process: tests that compare bits have a run of their own.
[[ -z "$deterministic" ]] || stage "pytest, deterministic operations" \
  env KDAS_TF_TEST_DETERMINISTIC=1 "$python" -m pytest "${parallel[@]}" -m "$deterministic"
