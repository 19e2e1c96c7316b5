"""python vace/vace_ltx_inference.py: the same as `vace ltx`, under the name the user guide gives it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the clone, not vace/ itself, is where `vace` is found
    from vace.cli import main

    sys.exit(main(command="ltx", prog="vace_ltx_inference.py"))
