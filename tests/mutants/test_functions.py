"""Functions of a loaded module are replaced by mutated ones, and what can't be replaced is recognized."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mutants.functions import Replacement, live_functions, replace_functions

SOURCE = """
from functools import cache, wraps

def logged(function):
    @wraps(function)
    def call(*args):
        return function(*args)
    return call

def more(a, step=2):
    return a + step

class Counter:
    size = 3 + 4

    @logged
    def count(self):
        return len([x for x in range(9) if x > 4])
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    """A module that is loaded."""
    path = tmp_path / "mutated_module.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("mutated_module", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutated_module"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mutated_module"]


def replaced(module: ModuleType, old: str, new: str, ran: frozenset[int] = frozenset()) -> Replacement:
    """Replace a text in the functions of the module."""
    file = str(module.__file__)
    functions = live_functions(str(Path(file).parent))
    return replace_functions(functions, {file: ran}, file, SOURCE, SOURCE.replace(old, new))


def test_functions_that_are_alive_get_the_mutated_code(module: ModuleType) -> None:
    """A reference from before the replacement calls the mutated function as well."""
    more = module.more
    assert replaced(module, "a + step", "a - step") is Replacement.DONE
    assert more(5) == 3


def test_decorated_methods_get_the_mutated_code(module: ModuleType) -> None:
    """The decorator keeps the function, and the function its comprehension."""
    counter = module.Counter()
    assert replaced(module, "x > 4", "x >= 4") is Replacement.DONE
    assert counter.count() == 5


@pytest.mark.parametrize(("old", "new"), [("3 + 4", "3 - 4"), ("step=2", "step=3"), ("@logged", ""), ("a + step", "a")])
def test_what_runs_at_the_import_has_to_be_imported(module: ModuleType, old: str, new: str) -> None:
    """The last case shows that the others aren't refused for another reason."""
    wanted = Replacement.DONE if old == "a + step" else Replacement.IMPOSSIBLE
    assert replaced(module, old, new) is wanted


def test_a_function_that_ran_before_is_not_certain(module: ModuleType) -> None:
    """What it returned may have been kept."""
    line = SOURCE.splitlines().index("    return a + step") + 1
    assert replaced(module, "a + step", "a - step", frozenset({line})) is Replacement.REPEATED


def test_functions_that_are_kept_out_of_garbage_collections_are_replaced(module: ModuleType) -> None:
    """tests/conftest.py keeps all that was collected out of them."""
    gc.collect()
    gc.freeze()
    assert replaced(module, "a + step", "a - step") is Replacement.DONE
    assert module.more(3) == 1
