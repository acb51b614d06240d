"""Fixtures that start the program as a service manager does."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.program import SOURCE

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """Yield a directory that is not below /tmp, since a sandboxed service has a /tmp of its own."""
    with tempfile.TemporaryDirectory(prefix=".service-", dir=ROOT, ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def program(base: Path) -> Path:
    """Make a `sessiond` like an installation, with this source and this Python."""
    made = base / "bin" / "sessiond"
    made.parent.mkdir()
    made.write_text(f"#!/bin/sh\nPYTHONPATH='{SOURCE}' exec '{sys.executable}' '{made.parent}/start.py' \"$@\"\n")
    made.chmod(0o755)
    # The name that the program has for itself is the one of the script above, as with a console script.
    start = f"import sys\nfrom sessiond.cli import main\nsys.argv[0] = {str(made)!r}\nsys.exit(main())\n"
    (made.parent / "start.py").write_text(start)
    return made
