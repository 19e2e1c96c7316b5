#!/usr/bin/env bash
# Measures parity with the original and writes benchmarks/parity.md. VACE_GOLDENS=DIR chooses another set of goldens.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh dev
table=$(mktemp)
trap 'rm -f "$table"' EXIT
VACE_PARITY_TABLE=$table .venv/bin/python -m pytest -m parity
{
  echo "# Parity with the original"
  echo
  echo "Largest absolute difference from arrays made by the original code, float32 on the CPU, $(.venv/bin/python -c 'import torch, diffusers, transformers; print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}")')."
  echo "Written by \`scripts/parity_table.sh\`. Where we fix the original, its array is read through a correction of"
  echo "\`tests/parity_fixes.py\`, which gives the reason."
  echo
  cat "$table"
} > benchmarks/parity.md
