"""`python -m zcipc` is `zcipc`."""

import sys

from zcipc.cli import main

sys.exit(main())
