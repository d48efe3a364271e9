#!/usr/bin/env bash
# Makes .venv at the repository root hold the pinned requirements: launch/setup.sh [--dev]
#
# --dev also installs the test runner and the checkers. Finds a Python by itself; PYTHON=/path/to/python chooses one.
# A second run changes nothing, needs no network and takes less than a second. The package itself is not installed:
# the other scripts run it from the repository.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
unfinished="$venv/.unfinished" # there while .venv is being changed, and left behind when that was cut short

say() { echo "setup: $*" >&2; }

fail() {
  say "$@"
  exit 1
}

# Prints an interpreter's version and what venv needs but it lacks, such as "3.11" or "3.11 ensurepip".
describe() {
  "$1" -c '
import sys
missing = []
for name in ("venv", "ensurepip"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
print(" ".join(["%d.%d" % sys.version_info[:2]] + missing))
' 2>/dev/null </dev/null
}

# Sets `python` to a suitable interpreter, or says what was found and what is missing.
find_python() {
  local names=(python3.13 python3.12 python3.11 python3 python) name path found version="" rejected=()
  [[ -z "${PYTHON:-}" ]] || names=("$PYTHON")
  for name in "${names[@]}"; do
    while IFS= read -r path; do
      found="$(describe "$path")" || continue # such as a pyenv shim of a version that is not selected
      case "$found" in
        3.11 | 3.12 | 3.13)
          python="$path"
          return
          ;;
        "3.11 "* | "3.12 "* | "3.13 "*)
          version="${found%% *}"
          rejected+=("$path is Python $version, but its ${found#* } module is missing")
          ;;
        *) rejected+=("$path is Python ${found:-of an unknown version}") ;;
      esac
    done < <(type -aP "$name")
  done
  [[ ${#rejected[@]} -gt 0 ]] || rejected=("none that runs under the names ${names[*]}")
  say "expected Python 3.11, 3.12 or 3.13 with the venv module, found:"
  for found in "${rejected[@]}"; do say "  $found"; done
  [[ -z "$version" ]] || fail "install the module (Debian, Ubuntu: apt-get install python$version-venv) and try again"
  fail "install one (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv) or name one: PYTHON=/path/to/python"
}

# Whether .venv holds what this run needs: its stamps are copies of the files that were installed.
is_current() {
  [[ ! -e "$unfinished" ]] && runs && cmp -s "$root/requirements.txt" "$venv/requirements.txt" &&
    { [[ -z "$dev" ]] || cmp -s "$root/requirements-dev.txt" "$venv/requirements-dev.txt"; }
}

# Whether .venv has an interpreter of the version asked for, if any was, that sees what is installed.
runs() {
  local version
  version="$("$venv/bin/python" -I -c '
import importlib.util, sys
print("%d.%d" % sys.version_info[:2] if importlib.util.find_spec("pip") else "none")
' 2>/dev/null)" || return 1
  [[ "$version" == "${wanted:-$version}" && "$version" =~ ^3\.1[123]$ ]]
}

create() {
  find_python
  say "creating .venv with $python (Python $(describe "$python"))"
  rm -rf "$venv"
  mkdir "$venv"
  touch "$unfinished"
  "$python" -I -m venv "$venv"
}

install() {
  local file="requirements${dev:+-dev}.txt"
  say "installing $file (TensorFlow alone is 600 MB: the first time takes minutes)"
  touch "$unfinished"
  "$venv/bin/python" -I -m pip install -qq --disable-pip-version-check --no-input -r "$root/$file" ||
    { rm "$unfinished" && fail "pip could not install $file (see above); when that is mended, run the same command"; }
  cp "$root/requirements.txt" ${dev:+"$root/requirements-dev.txt"} "$venv/"
  rm "$unfinished"
}

case "${1:-}" in
  --dev) dev=yes ;;
  "") dev="" ;;
  *) fail "expected --dev or nothing, got: $*" ;;
esac
trap 'say "interrupted; the same command starts again"; exit 130' INT

wanted="" python=""
if [[ -n "${PYTHON:-}" ]]; then
  find_python
  wanted="$(describe "$python")"
fi
if command -v flock >/dev/null; then # two runs at once would spoil each other's .venv
  exec 9<"$root/requirements.txt"
  flock -n 9 || { say "waiting for another set-up to end" && flock 9; }
fi
is_current && exit
{ [[ ! -e "$unfinished" ]] && runs; } || create
install
say "done"
