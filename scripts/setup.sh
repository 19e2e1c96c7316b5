#!/usr/bin/env bash
# Makes .venv and installs vace into it, at the versions of constraints.txt. Run it as often as you like: when nothing
# changed since the last time it ends at once.
#   scripts/setup.sh [EXTRA ...]        extras: dev demo batch quant
#   PYTHON=python3.12 scripts/setup.sh  another interpreter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }

PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
  say "setup: $PYTHON is not Python 3.10-3.13; install one of these, or say which: PYTHON=python3.12 scripts/setup.sh"
  exit 2
fi
if [ ! -x .venv/bin/python ]; then
  say "setup: making .venv with $("$PYTHON" --version)"
  if ! "$PYTHON" -m venv .venv; then
    rm -rf .venv
    say "setup: $PYTHON could not make a virtual environment; on Debian or Ubuntu: sudo apt-get install python3-venv"
    exit 2
  fi
fi

# One stamp an extra: what was installed last time, as a hash of the two files that decide it.
mark=$(cat pyproject.toml constraints.txt | .venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
missing=()
for extra in base "$@"; do
  [ "$(cat ".venv/vace-$extra.stamp" 2>/dev/null)" = "$mark" ] || missing+=("$extra")
done

# The small networks of MediaPipe, out of a wheel that is not installed: nothing that works without them shall wait.
fetch_networks() {
  local there=(assets/models/mediapipe/*.tflite)
  [ ${#there[@]} -ge 9 ] && return
  .venv/bin/vace models pull mediapipe >/dev/null ||
    say "setup: poses, faces and person mattes ask for these networks; later: vace models pull mediapipe"
}
if [ ${#missing[@]} -eq 0 ]; then
  fetch_networks
  exit 0
fi

# Extras that were installed before are installed again with the new pins, so that none is left behind.
extras=("$@")
for stamp in .venv/vace-*.stamp; do
  [ -e "$stamp" ] || continue
  name=${stamp#.venv/vace-}; name=${name%.stamp}
  [ "$name" = base ] || extras+=("$name")
done
list=$(printf '%s\n' ${extras[@]+"${extras[@]}"} | sort -u | paste -sd, -)
target=.
[ -n "$list" ] && target=".[$list]"
say "setup: installing vace${list:+ with $list} (about 1.7 GB on a machine without CUDA, more with; a few minutes)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "$target"
for extra in base ${extras[@]+"${extras[@]}"}; do printf '%s\n' "$mark" > ".venv/vace-$extra.stamp"; done
fetch_networks
say "setup: done; 'source .venv/bin/activate' puts the command vace on your path, 'vace doctor' looks around"
