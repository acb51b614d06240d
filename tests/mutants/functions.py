"""Replaces the functions of a module that is loaded by those of its mutated text.

This is how a process that has imported everything runs a mutant without importing anything again.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection, Iterator, Mapping
from enum import Enum, auto
from inspect import CO_OPTIMIZED
from types import CodeType, FunctionType

Functions = dict[str, list[FunctionType]]
"""The functions that are alive, by the file of their code."""
Lines = Mapping[str, Collection[int]]
"""Numbers of lines by file."""


def live_functions(directory: str) -> Functions:
    """Return the live functions whose code is below `directory`.

    Objects that were frozen are unfrozen: otherwise they are not listed.
    """
    gc.unfreeze()
    found: Functions = {}
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename.startswith(directory):
            found.setdefault(thing.__code__.co_filename, []).append(thing)
    return found


class Replacement(Enum):
    """What came of replacing the functions of a module."""

    DONE = auto()
    REPEATED = auto()
    """Done, but a function that differs has run before: what it made then is that of the original."""
    IMPOSSIBLE = auto()
    """What differs runs when the module is imported, or is no function that is alive."""


def replace_functions(functions: Functions, ran: Lines, file: str, original: str, mutated: str) -> Replacement:
    """Set the code of the live functions of `file` to that of its mutated text.

    `ran` are the lines that have run so far. A module that is not loaded yet needs no replacement.
    """
    if all(getattr(module, "__file__", None) != file for module in list(sys.modules.values())):
        return Replacement.DONE
    old, new = list(_codes(original, file)), list(_codes(mutated, file))
    if [code.co_qualname for code, _ in old] != [code.co_qualname for code, _ in new]:
        return Replacement.IMPOSSIBLE
    pairs = [(before, after) for (before, _), (after, _) in zip(old, new, strict=True)]
    if any(imported and _content(pair[0]) != _content(pair[1]) for pair, (_, imported) in zip(pairs, old, strict=True)):
        return Replacement.IMPOSSIBLE
    replacements = {_identity(before): after for before, after in pairs}
    changed = False
    for function in functions.get(file, []):
        code = replacements.get(_identity(function.__code__))
        if code is None or len(code.co_freevars) != len(function.__code__.co_freevars):
            return Replacement.IMPOSSIBLE
        changed = changed or _whole(code) != _whole(function.__code__)
        function.__code__ = code
    if not changed:
        return Replacement.IMPOSSIBLE
    differing = [before for before, after in pairs if _content(before) != _content(after)]
    repeated = any(not _body(code).isdisjoint(ran.get(file, ())) for code in differing)
    return Replacement.REPEATED if repeated else Replacement.DONE


def _body(code: CodeType) -> set[int]:
    """Return the lines of a function, without the first one if it has others: that one runs where it is defined."""
    lines = {line for _, _, line in code.co_lines() if line}
    return lines - {code.co_firstlineno} or lines


def _codes(text: str, file: str) -> Iterator[tuple[CodeType, bool]]:
    """Iterate over the code of a text, outer before inner, and whether it runs when the module is imported."""

    def walk(code: CodeType, outer_imported: bool) -> Iterator[tuple[CodeType, bool]]:
        body = not code.co_flags & CO_OPTIMIZED  # of the module or of a class
        comprehension = code.co_name.startswith("<") and code.co_name != "<lambda>"
        imported = outer_imported and (body or comprehension)
        yield code, imported
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from walk(constant, imported)

    return walk(compile(text, file, "exec", dont_inherit=True), True)


def _identity(code: CodeType) -> tuple[str, int, bytes]:
    """Return what identifies code among all of its file."""
    return code.co_qualname, code.co_firstlineno, code.co_code


def _content(code: CodeType) -> tuple[object, ...]:
    """Return what the code does, without the code inside it and without its line numbers."""
    constants = [repr(constant) for constant in code.co_consts if not isinstance(constant, CodeType)]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, constants


def _whole(code: CodeType) -> list[object]:
    """Return what the code does, with the code inside it."""
    inner = [_whole(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return [_content(code), *inner]
