import sys

from vace.cli import main

sys.exit(main())
