#!/usr/bin/env bash
# The tests. Sets up what is missing first.
#   scripts/test.sh          the quick ones (under 10 minutes on 2 cores)
#   scripts/test.sh --all    these and the slow ones: several processes, long clips, a fresh installation (under 40)
#   Further arguments go to pytest: scripts/test.sh -k gray
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
select=(-m "not slow") extras=(dev)
if [ "${1:-}" = --all ]; then select=() extras=(dev batch); shift; fi
bash scripts/setup.sh "${extras[@]}"

.venv/bin/ruff check --quiet vace tests scripts
exec .venv/bin/python -m pytest -n auto --maxprocesses=4 ${select[@]+"${select[@]}"} --durations=15 "$@"
