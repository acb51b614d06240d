"""`python -m sessiond` is `sessiond`."""

from __future__ import annotations

import sys

from sessiond.cli import main

if __name__ == "__main__":
    sys.exit(main())
