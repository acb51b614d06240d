"""Functions, classes and files stay small, and modules import one another in one direction.

CONTRIBUTING.md states the limits. Ruff checks the number of parameters (PLR0913).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import grimp

from support.syntax import nodes, within

DAEMON = Path(__file__).parents[2] / "daemon/sessiond"
FILE_LINES = 300
FUNCTION_LINES = 50
ATTRIBUTES = 12

EXCEPTIONS: dict[str, str] = {}
"""What exceeds a limit, as `file`, `file:function` or `file:Class`, with the reason."""


def exceeding() -> set[str]:
    """Return what exceeds a limit, in the form of EXCEPTIONS."""
    found = set()
    for path in sorted(DAEMON.rglob("*.py")):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(DAEMON).as_posix()
        if text.count("\n") > FILE_LINES:
            found.add(name)
        found |= {f"{name}:{part}" for part in large_parts(text)}
    return found


def large_parts(text: str) -> Iterator[str]:
    """Iterate the functions that are too long and the classes that set too many attributes in `__init__`."""
    for node, inside in nodes(text):
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES:
            yield within(node, inside)
        if isinstance(node, ast.ClassDef) and len(set(_attributes(node))) > ATTRIBUTES:
            yield within(node, inside)


def _attributes(of: ast.ClassDef) -> Iterator[str]:
    for function in of.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
                    yield node.attr


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def cycles(modules: Set[str], imports: Callable[[str], Set[str]]) -> list[list[str]]:
    """Return the modules that reach themselves through imports, grouped with those that they do it with."""
    reached = {module: _reach(module, imports) for module in modules}
    groups = {frozenset(other for other in reached[module] if module in reached[other]) for module in modules}
    return sorted(sorted(group) for group in groups if group)


def _reach(module: str, imports: Callable[[str], Set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        for each in imports(waiting.pop()) - reached:
            reached.add(each)
            waiting.append(each)
    return reached


def test_nothing_new_exceeds_a_limit() -> None:
    """Split what exceeds a limit. If that makes it harder to read, add it to EXCEPTIONS with the reason."""
    assert sorted(exceeding() - EXCEPTIONS.keys()) == []


def test_every_exception_is_still_needed() -> None:
    """Remove from EXCEPTIONS what is within the limits now, so that the list only shrinks."""
    assert sorted(EXCEPTIONS.keys() - exceeding()) == []


def test_the_limits_are_checked_where_they_are_passed() -> None:
    body = "".join(f"    a{number} = 0\n" for number in range(FUNCTION_LINES - 1))
    attributes = "".join(f"        self.a{number} = 0\n" for number in range(ATTRIBUTES))
    within = f"def f():\n{body}\nclass C:\n    def __init__(self):\n{attributes}        self.a1 = 1\n"
    beyond = f"def f():\n{body}    b = 0\n\nclass C:\n    def __init__(self):\n{attributes}        self.b: int = 0\n"
    assert list(large_parts(within)) == []
    assert list(large_parts(beyond)) == ["f", "C"]


def test_no_module_imports_itself_through_others() -> None:
    """Imports for types only don't count: they don't exist while the program runs."""
    graph = grimp.build_graph("sessiond", cache_dir=None, exclude_type_checking_imports=True)
    assert cycles(graph.modules, graph.find_modules_directly_imported_by) == []


def test_a_cycle_is_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert cycles(set(imports), lambda module: imports[module]) == [["b", "c"]]
