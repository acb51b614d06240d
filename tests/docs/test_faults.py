"""docs/faults.md has every fault once, and names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from support.syntax import parse

ROOT = Path(__file__).parents[2]
WHY = ("Not tested: ", "Does not apply: ")


def rows() -> list[list[str]]:
    """Read the rows: id, fault, what sessiond does, what shows it."""
    lines = (ROOT / "docs/faults.md").read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| [A-Z]\d+ \|", line)
    ]


def exists(test: str) -> bool:
    """Return whether a test exists: a function, or a name that the module binds."""
    file, _, name = test.partition("::")
    return name in names(file)


@cache
def names(file: str) -> set[str]:
    """Return the functions, classes and other names that a module binds."""
    nodes = list(ast.walk(parse((ROOT / file).read_text(encoding="utf-8"))))
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return functions | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def test_every_fault_has_exactly_one_row() -> None:
    """The numbers of each letter start at 1 and have no gap, so no row is lost in an edit."""
    found = [(row[0][0], int(row[0][1:])) for row in rows()]
    letters = list(dict.fromkeys(letter for letter, _ in found))
    assert len(found) >= 145
    assert found == [(each, 1 + at) for each in letters for at in range(sum(letter == each for letter, _ in found))]


def test_every_row_names_a_test_that_exists_or_says_why_none_does() -> None:
    for row in rows():
        assert len(row) == 4, row
        name, fault, does, shown = row
        tests = re.findall(r"`(tests/[^`]+::\w+)`", shown)
        assert fault, name
        if shown.startswith(WHY):
            assert not does, f"{name}: what is not shown is not claimed"
        else:
            assert does, name
            assert tests, f"{name}: no test and no reason"
        for test in tests:
            assert exists(test), f"{name}: there is no {test}"
