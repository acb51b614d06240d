"""The syntax trees of modules, for tests that read code; each module is parsed once."""

from __future__ import annotations

import ast
from functools import cache


@cache
def parse(source: str) -> ast.Module:
    """Return the tree of a module. Tests share it and don't change it."""
    return ast.parse(source)
