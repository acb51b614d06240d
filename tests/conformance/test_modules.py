"""A tool is small modules, each of one noun: what changes in its format is found in one place, and read whole."""

from __future__ import annotations

from pathlib import Path

import pytest

import sessiond.sources

ROOM = Path(sessiond.sources.__file__).parent
SHARED = {"__init__.py", "base.py", "records.py", "rows.py", "objects.py", "places.py", "processes.py", "editors.py"}
"""What belongs to no tool."""
LONGEST = 100
MODULES = sorted({path.relative_to(ROOM).as_posix() for path in ROOM.rglob("*.py")} - SHARED)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_of_a_tool_is_short(module: str) -> None:
    """One that grows past it has a second noun in it. What several tools need stands in the shared ones."""
    lines = (ROOM / module).read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST
