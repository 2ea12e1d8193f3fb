"""`python -m ptmetrics` is the command `ptmetrics`."""

import sys

from ptmetrics.cli import main

sys.exit(main())
