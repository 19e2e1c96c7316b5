#!/usr/bin/env bash
# Six jobs of a file, one after the other: scripts/batch_example.sh [FLAGS of vace batch]
# Run it again and nothing is made twice; stop it with Ctrl-C or worse, and it goes on where it was.
#   scripts/batch_example.sh --dry-run        what would be done
#   scripts/batch_example.sh --shard 1/2      half of it; 2/2 on another machine or in another job of a scheduler
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/vace batch assets/jobs/example.jsonl --out results/batch_example "$@"
