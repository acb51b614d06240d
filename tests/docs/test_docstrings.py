"""Docstrings are imperative sentences with a verb that says what a function does: Return, Iterate, Format, Write."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from support.syntax import parse

ROOT = Path(__file__).parents[2]
VAGUE = {"Tell", "Say", "Let", "Lay", "Name"}
"""Verbs that don't say whether a function returns, prints, stores or permits something."""


def vague() -> Iterator[str]:
    """Iterate the locations of docstrings that begin with a vague verb."""
    for base in ("bench", "daemon", "docs", "tests"):
        for path in sorted((ROOT / base).rglob("*.py")):
            for node in ast.walk(parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                    first = (ast.get_docstring(node) or "").partition(" ")[0]
                    if first.strip(".,:") in VAGUE:
                        name = path.relative_to(ROOT)
                        line = 1 if isinstance(node, ast.Module) else node.lineno
                        yield f"{name}:{line}: {first}"


def test_no_docstring_starts_with_a_vague_verb() -> None:
    assert list(vague()) == []
