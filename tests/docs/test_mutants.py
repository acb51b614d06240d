"""The named mutants still fit the code: each can be made, differs, and names tests that exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mutants.draw import SOURCE
from mutants.named import Named
from mutants.named_capture import CAPTURE
from mutants.named_edges import EDGES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", [*CAPTURE, *EDGES], ids=lambda mutant: mutant.name)
def test_a_named_mutant_can_be_made(mutant: Named) -> None:
    """Its text is in the file exactly once, and what replaces it is Python. If the code has moved, move the mutant."""
    text = (SOURCE / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.file} has its text {text.count(mutant.old)} times"
    changed = text.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))
    for suite in mutant.suites:
        assert all((ROOT / name).is_file() for name in suite if name.startswith("tests/")), suite
