"""`sessiond serve` with short times, so that a trial of minutes has many packings, objects and sweeps."""

from __future__ import annotations

import sys

from sessiond.cli import main
from sessiond.endpoint.server import objects, offloader, upkeep

upkeep.SOON, upkeep.LATER, upkeep.RETRY, upkeep.SWEEP = 0.3, 1.0, 0.3, 1.0
offloader.SMALLEST, offloader.LARGE = 4 << 10, 32 << 10
objects.LEASE_MS = 20_000

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
