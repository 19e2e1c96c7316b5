#!/usr/bin/env bash
# A browser for the tests of the pages: the one that is here, else Debian's package, else the one Playwright fetches.
#   VACE_CHROMIUM=/path/to/chrome scripts/chromium.sh     another one
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ -n "${VACE_CHROMIUM:-}" ] && exit 0
for name in chromium chromium-browser google-chrome google-chrome-stable; do
  command -v "$name" >/dev/null && exit 0
done
printf '%s\n' "test: installing Chromium for the tests of the pages" >&2
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
if command -v apt-get >/dev/null && apt_out=$({ "${as_root[@]}" apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } 2>&1); then
  exit 0
fi
printf '%s\n' "${apt_out:-}" | tail -n 3 >&2
.venv/bin/python -m playwright install chromium
