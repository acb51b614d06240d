"""The tests that judge a mutant: those that reach its lines, the most telling ones first."""

from __future__ import annotations

from pathlib import Path

import coverage

from mutants import reach
from mutants.draw import SOURCE
from mutants.reach import keys_of
from mutants.selection import OTHERS, Changed, Selection

FILE = "spool/fair_lock.py"
TEXT = (SOURCE / FILE).read_text()
KEYS = keys_of(SOURCE / FILE)
INIT, ENTER = (1 + TEXT[: TEXT.index(text)].count("\n") for text in ("def __init__", "def __enter__"))


def selected(*tests: reach.Test, line: int = ENTER + 1, budget: float = 9.0) -> list[str]:
    """Return the names of the tests for a mutant of one line."""
    return [test.name for test in Selection(tests).select(Changed(FILE, line, line, TEXT, TEXT), budget)]


def reaching(name: str, seconds: float, *lines: int) -> reach.Test:
    return reach.Test(name, seconds, frozenset(KEYS[line] for line in lines))


def test_tests_that_reach_the_lines_come_first() -> None:
    """Others that reach the file follow; others that don't are no help."""
    other = reach.Test("other", 0.0, frozenset({"spool/health.py::write::pass"}))
    near, exact = reaching("near", 0.01, INIT + 1), reaching("exact", 1.0, ENTER + 1)
    assert selected(near, other, exact) == ["exact", "near"]


def test_a_line_that_few_tests_reach_makes_a_test_come_earlier() -> None:
    many = [reaching(f"many {number}", 0.5, ENTER + 1) for number in range(5)]
    assert selected(*many, reaching("few", 0.5, ENTER + 1, ENTER + 2))[0] == "few"


def test_the_tests_are_limited_by_their_time() -> None:
    """One runs in any case."""
    slow = [reaching(f"slow {number}", 4.0, ENTER + 1) for number in range(3)]
    assert len(selected(*slow)) == 2
    assert len(selected(*slow, budget=1.0)) == 1
    near = [reaching(f"near {number}", OTHERS / 2, INIT + 1) for number in range(5)]
    assert len(selected(slow[0], *near)) == 3


def test_half_a_file_of_a_killed_process_costs_only_its_own_lines(tmp_path: Path) -> None:
    whole = coverage.CoverageData(str(tmp_path / "coverage.1"))
    whole.set_context("a test")
    whole.add_lines({str(SOURCE / FILE): [ENTER + 1]})
    whole.close()
    stored = (tmp_path / "coverage.1").read_bytes()
    (tmp_path / "coverage.2").write_bytes(stored[: len(stored) // 2])
    (tmp_path / "coverage.3").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert reach.lines_of(tmp_path / "coverage") == {"a test": {KEYS[ENTER + 1]}}
