"""What the tests of a real process share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from process_lab import World
from process_lab import world as made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world of its own for each test."""
    with made(tmp_path) as world:
        yield world
