"""python vace/vace_wan_inference.py: the same as `vace wan`, under the name the user guide gives it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the clone, not vace/ itself, is where `vace` is found
    from vace.cli import main

    sys.exit(main(command="wan", prog="vace_wan_inference.py"))
