#!/usr/bin/env bash
# The tests. Sets up what is missing first.
#   scripts/test.sh          the quick ones (under 10 minutes on 2 cores)
#   scripts/test.sh --all    these and the slow ones: several processes, a browser, long clips, a fresh installation
#                            (under 40); installs Chromium where there is none
#   Further arguments go to pytest: scripts/test.sh -k gray
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
select=(-m "not slow") extras=(dev demo)
if [ "${1:-}" = --all ]; then select=() extras=(dev demo batch); shift; fi
bash scripts/setup.sh "${extras[@]}"
[ ${#select[@]} -gt 0 ] || bash scripts/chromium.sh

.venv/bin/ruff check --quiet vace tests scripts
exec .venv/bin/python -m pytest -n auto --maxprocesses=4 ${select[@]+"${select[@]}"} --durations=15 "$@"
