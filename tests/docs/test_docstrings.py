"""Docstrings are imperative sentences with a verb that says what a function does: Return, Iterate, Format, Write."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from support.syntax import parse

ROOT = Path(__file__).parents[2]
VAGUE = {"Tell", "Say", "Let", "Lay", "Name"}
"""Verbs that don't say whether a function returns, prints, stores or permits something."""
BEGINNING = re.compile(rf"[\"'](?:\s|\\\n)*(?:{'|'.join(sorted(VAGUE))})\b")
"""What begins like a docstring with one of them, wherever it is."""


def vague(text: str) -> Iterator[str]:
    """Iterate the lines of definitions whose docstring begins with a vague verb, each with the verb."""
    if not BEGINNING.search(text):
        return  # to parse all modules takes seconds
    for node in ast.walk(parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            first = (ast.get_docstring(node) or "").partition(" ")[0]
            if first.strip(".,:") in VAGUE:
                yield f"{1 if isinstance(node, ast.Module) else node.lineno}: {first}"


def test_no_docstring_starts_with_a_vague_verb() -> None:
    paths = [path for base in ("bench", "daemon", "docs", "tests") for path in sorted((ROOT / base).rglob("*.py"))]
    found = [f"{path.relative_to(ROOT)}:{each}" for path in paths for each in vague(path.read_text(encoding="utf-8"))]
    assert found == []


def test_a_vague_verb_is_found_wherever_a_docstring_is() -> None:
    verb = "Tell"
    assert list(vague(f'"""{verb} it."""')) == [f"1: {verb}"]
    assert list(vague(f"def f():\n    '''\n    {verb}, then.\n    '''")) == [f"1: {verb},"]
    assert list(vague(f'class A:\n    def f(self):\n        "{verb}"\n')) == [f"2: {verb}"]
    assert list(vague(f'"""Return it."""\nx = "{verb} it."\n')) == []
