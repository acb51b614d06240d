"""For the tests of the engine and its parts: built-in archives start as forks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.program import forked_archives


@pytest.fixture(autouse=True, scope="session")
def forked() -> Iterator[None]:
    with forked_archives():
        yield
