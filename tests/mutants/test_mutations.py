"""The generator of mutants: its changes, what it leaves alone, and that a draw repeats itself."""

from __future__ import annotations

import pytest

from mutants.draw import PACKAGES, draw
from mutants.harmless import HARMLESS
from mutants.mutations import apply, changes
from mutants.named_capture import CAPTURE
from mutants.named_edges import EDGES


def mutated(source: str) -> set[str]:
    """Return the texts that one change makes of a source."""
    return {apply(source, change) for change in changes(source)}


@pytest.mark.parametrize(
    ("source", "mutant"),
    [
        ("x = a < b\n", "x = a <= b\n"),
        ("x = (a) == (b)\n", "x = (a) != (b)\n"),
        ("x = a is not None\n", "x = a is None\n"),
        ("x = a not in b\n", "x = a in b\n"),
        ("x = a and b or c\n", "x = a and b and c\n"),
        ("x = f(a + 1)\n", "x = f(a - 1)\n"),
        ("x = f(a + 1)\n", "x = f(a + 2)\n"),
        ("x = f(True)\n", "x = f(False)\n"),
        ("x = not a\n", "x = (a)\n"),
        ("x = f(a, b)\n", "x = f(b, a)\n"),
        ("x = min(a)\n", "x = max(a)\n"),
        ("f(a)\n", "pass\n"),
        ("def f():\n    return a\n", "def f():\n    return None\n"),
        ("def f():\n    self.a = b\n", "def f():\n    pass\n"),
        ("def f():\n    a += 1\n", "def f():\n    a -= 1\n"),
        ("for x in y:\n    break\n", "for x in y:\n    continue\n"),
        ("try:\n    f()\nexcept A:\n    raise\n", "try:\n    f()\nexcept A:\n    pass\n"),
        ("if a:\n    b = c\n", "if not (a):\n    b = c\n"),
        ("f('SELECT a WHERE b < ?')\n", "f('SELECT a WHERE b <= ?')\n"),
        ("x = 'ä' if a > b else c\n", "x = 'ä' if a >= b else c\n"),
    ],
)
def test_a_mutation_is_made(source: str, mutant: str) -> None:
    """Each kind of change is found at its place."""
    assert mutant in mutated(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring with a < b and 1 + 1."""\n',
        "x: int | None\n",
        "def f(a: int | None) -> bool | None:\n    pass\n",
        "__all__ = ['a']\n",
        "SIZE = 1 << 20\n",
        "LEAST, MOST = 1 << 20, 2 << 20\n",
        "TYPE_CHECKING = False\n",
        "class A(B, frozen=True):\n    size: int = 3\n",
        "log.info('a.b', count=1 + 2)\n",
        "if TYPE_CHECKING:\n    x = 1 < 2\n",
        "assert a < b\n",
        "Item = Left | Right\n",
    ],
)
def test_what_no_test_could_notice_is_left_alone(source: str) -> None:
    """Declarations, texts and assertions are not mutated."""
    assert mutated(source) == set()


def test_a_draw_repeats_itself_and_another_seed_draws_others() -> None:
    """The seed alone decides."""
    first = [mutant.key for mutant in draw("upload", 1, 20)]
    assert first == [mutant.key for mutant in draw("upload", 1, 20)]
    assert first != [mutant.key for mutant in draw("upload", 2, 20)]
    assert len(set(first)) == 20


def test_each_harmless_mutant_has_its_package_and_a_reason() -> None:
    """An entry without a reason excuses nothing."""
    for key, reason in HARMLESS.items():
        assert key.split("/")[0].removesuffix(".py").partition(".")[0] in PACKAGES, key
        assert len(reason.split()) > 3, key


def test_named_mutants_have_names_of_their_own() -> None:
    """Verdicts are distinguished by the name."""
    names = [mutant.name for mutant in (*CAPTURE, *EDGES)]
    assert len(set(names)) == len(names)
