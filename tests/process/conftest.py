"""Fixtures of the tests with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from process_lab import World
from process_lab import world as made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Yield a new world for each test."""
    with made(tmp_path) as world:
        yield world
