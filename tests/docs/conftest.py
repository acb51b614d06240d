"""Fixtures of the tests that read code and documents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.syntax import nodes, parse


@pytest.fixture(autouse=True, scope="package")
def _forget_syntax_trees() -> Iterator[None]:
    """Free the trees after these tests: millions of objects would slow each garbage collection of the others."""
    yield
    parse.cache_clear()
    nodes.cache_clear()
