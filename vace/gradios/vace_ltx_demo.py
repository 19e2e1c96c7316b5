"""python vace/gradios/vace_ltx_demo.py: the same as `vace demo ltx`, under the name the user guide gives it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # the clone, not vace/gradios/, is where `vace` is found
    from vace.cli import main

    sys.exit(main(["ltx", *sys.argv[1:]], command="demo", prog="vace_ltx_demo.py"))
