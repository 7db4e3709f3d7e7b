"""`python -m mome`."""

import sys

from mome.cli.main import main

sys.exit(main())
