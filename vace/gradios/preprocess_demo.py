"""python vace/gradios/preprocess_demo.py: `vace demo preprocess`, under the name the user guide gives it."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # the clone, not vace/gradios/, is where `vace` is found
    from vace.cli import main

    sys.exit(main(["preprocess", *sys.argv[1:]], command="demo", prog="preprocess_demo.py"))
